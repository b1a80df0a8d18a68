package ipc

import (
	"net"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// PeerOf asks the kernel who connected: user and groups as they were at
// connect(2) (SO_PEERCRED, SO_PEERGROUPS).
func PeerOf(c net.Conn) (Peer, error) {
	return rawPeer(c, func(fd int) (Peer, error) {
		cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			return Peer{}, err
		}
		groups, err := peerGroups(fd)
		if err != nil {
			return Peer{}, err
		}
		if !slices.Contains(groups, cred.Gid) {
			groups = append(groups, cred.Gid)
		}
		return Peer{Known: true, UID: cred.Uid, GIDs: groups, PID: int(cred.Pid)}, nil
	})
}

// peerGroups asks again with more room when there are more groups than expected
// (ERANGE and the needed size).
func peerGroups(fd int) ([]uint32, error) {
	groups := make([]uint32, 32)
	for {
		size := uint32(len(groups) * 4)
		_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case e == 0:
			return slices.Clone(groups[:size/4]), nil
		case e == unix.ERANGE && int(size/4) > len(groups):
			groups = make([]uint32, size/4)
		case e == unix.ENODATA: // connected before credentials were kept
			return nil, nil
		default:
			return nil, e
		}
	}
}
