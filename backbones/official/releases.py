"""Where the authors' weights lie, whose license they are under, and which paper they are of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Origin:
    """One code base: its address, the license of code and weights, the paper's arXiv number."""

    code: str
    license: str
    paper: str


_APACHE = "apache-2.0"
ORIGINS: dict[str, Origin] = {
    "vmamba": Origin("https://github.com/MzeroMiko/VMamba", "mit", "2401.10166"),
    "quadmamba": Origin("https://github.com/VISION-SJTU/QuadMamba", "mit", "2410.06806"),
    "efficient_vmamba": Origin(
        "https://github.com/TerryPei/EfficientVMamba", _APACHE, "2403.09977"
    ),
    "local": Origin("https://github.com/hunto/LocalMamba", _APACHE, "2403.09338"),
    "vim": Origin("https://github.com/hustvl/Vim", _APACHE, "2401.09417"),
    "plainmamba": Origin("https://github.com/ChenhongyiYang/PlainMamba", _APACHE, "2403.17695"),
    "mambaout": Origin("https://github.com/yuweihao/MambaOut", _APACHE, "2405.07992"),
    "vit": Origin("https://github.com/facebookresearch/deit", _APACHE, "2012.12877"),
}

_VMAMBA = "https://github.com/MzeroMiko/VMamba/releases/download/%23"
_LOCAL = "https://github.com/hunto/LocalMamba/releases/download/v1.0.0/"
_PLAINMAMBA = "https://huggingface.co/ChenhongyiYang/PlainMamba/resolve/main/"
_MAMBAOUT = "https://github.com/yuweihao/MambaOut/releases/download/model/"
_VIM = "https://huggingface.co/hustvl/"

# As the code bases' own read-me files link them. Not here: QuadMamba's, which are on a drive that
# needs an account, EfficientVMamba's, LocalVMamba-T's and LocalVim-S's, which are not linked.
URLS: dict[str, str] = {
    "vmamba_tiny_s1l8": _VMAMBA + "v2cls/vssm1_tiny_0230s_ckpt_epoch_264.pth",
    "vmamba_tiny_s2l5": _VMAMBA + "v2cls/vssm_tiny_0230_ckpt_epoch_262.pth",
    "vmamba_small_s1l20": _VMAMBA + "v2cls/vssm1_small_0229s_ckpt_epoch_240.pth",
    "vmamba_small_s2l15": _VMAMBA + "v2cls/vssm_small_0229_ckpt_epoch_222.pth",
    "vmamba_base_s1l20": _VMAMBA + "v2cls/vssm1_base_0229s_ckpt_epoch_225.pth",
    "vmamba_base_s2l15": _VMAMBA + "v2cls/vssm_base_0229_ckpt_epoch_237.pth",
    "vmamba_v0_tiny": _VMAMBA + "v0cls/vssmtiny_dp01_ckpt_epoch_292.pth",
    "vmamba_v0_small": _VMAMBA + "v0cls/vssmsmall_dp03_ckpt_epoch_238.pth",
    "vmamba_v0_base": _VMAMBA + "v0cls/vssmbase_dp06_ckpt_epoch_241.pth",
    "vim_tiny": _VIM + "Vim-tiny-midclstok/resolve/main/vim_t_midclstok_76p1acc.pth",
    "vim_small": _VIM + "Vim-small-midclstok/resolve/main/vim_s_midclstok_80p5acc.pth",
    "vim_base": _VIM + "Vim-base-midclstok/resolve/main/vim_b_midclstok_81p9acc.pth",
    "local_vim_tiny": _LOCAL + "local_vim_tiny.ckpt",
    "local_vim_tiny_middle_cls_token": _LOCAL + "local_vim_tiny_middle_cls_token.ckpt",
    "local_vssm_small": _LOCAL + "local_vssm_small.ckpt",
    **{f"plainmamba_l{n}": f"{_PLAINMAMBA}l{n}.pth" for n in (1, 2, 3)},
    **{
        f"mambaout_{size}": f"{_MAMBAOUT}mambaout_{size}.pth"
        for size in ("femto", "kobe", "tiny", "small", "base")
    },
}


def origin_of(preset: str) -> Origin:
    """Return the code base that a preset was published with, by the beginning of its name."""
    return next(origin for name, origin in ORIGINS.items() if preset.startswith(name))
