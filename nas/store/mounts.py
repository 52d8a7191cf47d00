"""Where a file lies: SQLite's locks do not hold on network file systems."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

# As systems name them. FUSE file systems are network ones unless they are known to be local.
NETWORK_TYPES = frozenset(
    "nfs nfs3 nfs4 cifs smb2 smb3 smbfs ncpfs afs afpfs webdav ceph lustre gpfs beegfs glusterfs "
    "orangefs pvfs2 gfs gfs2 ocfs2 panfs davfs weka".split()
)
LOCAL_FUSE = frozenset(
    "fuseblk fuse.ntfs fuse.ntfs-3g fuse.exfat fuse.overlayfs fuse.bindfs".split()
)


@dataclass(frozen=True)
class Mount:
    """A mounted file system: where, of which type."""

    point: str
    type: str

    @property
    def is_network(self) -> bool:
        """Whether other machines may write the same files."""
        if self.type.startswith(("fuse", "macfuse", "osxfuse")):
            return self.type not in LOCAL_FUSE
        return self.type in NETWORK_TYPES


def mount_of(path: Path) -> Mount:
    """Return the mount that `path` lies on, or will."""
    target, inner = path.resolve(), Mount("/", "")
    for part in psutil.disk_partitions(all=True):
        # Later ones cover earlier ones on the same point.
        longer = len(part.mountpoint) >= len(inner.point)
        if longer and target.is_relative_to(part.mountpoint):
            inner = Mount(part.mountpoint, part.fstype)
    return inner
