//go:build darwin || freebsd

package ipc

import (
	"net"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"
)

const solLocal = 0 // SOL_LOCAL of <sys/un.h>

// PeerOf asks the kernel who connected (LOCAL_PEERCRED). It tells at most 16
// groups, so the group database has the say where it knows the user.
func PeerOf(c net.Conn) (Peer, error) {
	return rawPeer(c, func(fd int) (Peer, error) {
		cred, err := unix.GetsockoptXucred(fd, solLocal, unix.LOCAL_PEERCRED)
		if err != nil {
			return Peer{}, err
		}
		p := Peer{Known: true, UID: cred.Uid, GIDs: append([]uint32(nil), cred.Groups[:min(int(cred.Ngroups), len(cred.Groups))]...)}
		if u, err := user.LookupId(strconv.FormatUint(uint64(cred.Uid), 10)); err == nil {
			ids, _ := u.GroupIds()
			for _, id := range ids {
				if n, err := strconv.ParseUint(id, 10, 32); err == nil {
					p.GIDs = append(p.GIDs, uint32(n))
				}
			}
		}
		return p, nil
	})
}
