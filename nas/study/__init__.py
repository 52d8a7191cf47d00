"""What a study is: its settings, its budget, what is proposed and how an attempt can end."""
