"""S6, the selective scan of Mamba, over the routes of an image.

The folder is not named after the public function `kernels.selective_scan`: a package of that
name would hide it once imported.
"""
