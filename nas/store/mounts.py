"""Where a file lies: SQLite's locks do not hold on network file systems."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

MOUNT_TABLE = Path("/proc/self/mountinfo")

# As the kernel names them. FUSE file systems are network ones unless they are known to be local.
NETWORK_TYPES = frozenset(
    "nfs nfs3 nfs4 cifs smb2 smb3 smbfs ncpfs afs ceph lustre gpfs beegfs glusterfs orangefs pvfs2 "
    "gfs gfs2 ocfs2 panfs davfs weka".split()
)
LOCAL_FUSE = frozenset(
    "fuseblk fuse.ntfs fuse.ntfs-3g fuse.exfat fuse.overlayfs fuse.bindfs".split()
)


@dataclass(frozen=True)
class Mount:
    """A mounted file system: where, of which type, from what."""

    point: str
    type: str
    source: str

    @property
    def is_network(self) -> bool:
        """Whether other machines may write the same files."""
        if self.type.startswith("fuse"):
            return self.type not in LOCAL_FUSE
        return self.type in NETWORK_TYPES


def mount_of(path: Path, table: Path = MOUNT_TABLE) -> Mount | None:
    """Return the mount that `path` lies on; None where the system has no table of mounts."""
    try:
        lines = table.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    target = os.path.realpath(path)
    best: Mount | None = None
    for line in lines:
        left, _, right = line.partition(" - ")
        fields, rest = left.split(), right.split()
        if len(fields) < 5 or len(rest) < 2:
            continue
        point = fields[4].replace("\\040", " ")
        inside = target == point or target.startswith(point.rstrip("/") + "/")
        # Later lines cover earlier ones on the same point.
        if inside and (best is None or len(point) >= len(best.point)):
            best = Mount(point, rest[0], rest[1])
    return best
