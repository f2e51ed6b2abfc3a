package server

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// portOwner describes who listens on a TCP port, as far as this process may
// see: `process nginx (pid 812)`, `a process of user www-data`, or "" when
// nothing listens there. It reads /proc and is meant for error messages only.
func portOwner(port uint16) string {
	inodes, uid := listeningInodes(port)
	if len(inodes) == 0 {
		return ""
	}
	if pid, name := processOf(inodes); pid > 0 {
		if pid == os.Getpid() {
			return fmt.Sprintf("this process itself (pid %d)", pid)
		}
		return fmt.Sprintf("process %s (pid %d)", name, pid)
	}
	if uid >= 0 {
		return "a process of user " + userName(uid)
	}
	return "another process"
}

// listeningInodes returns the socket inodes that listen on port, and the user
// of the first one (-1 when unknown).
func listeningInodes(port uint16) (inodes []string, uid int) {
	uid = -1
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(table)
		if err != nil {
			continue
		}
		in, id := parseListening(f, port)
		f.Close()
		inodes = append(inodes, in...)
		if uid < 0 {
			uid = id
		}
	}
	return inodes, uid
}

// parseListening reads a table of the form of proc_net_tcp(5): field 1 is
// address:port in hexadecimal, 3 the state (0A is LISTEN), 7 the user, 9 the inode.
func parseListening(r io.Reader, port uint16) (inodes []string, uid int) {
	uid = -1
	suffix := fmt.Sprintf(":%04X", port)
	for sc := bufio.NewScanner(r); sc.Scan(); {
		f := strings.Fields(sc.Text())
		if len(f) < 10 || f[3] != "0A" || !strings.HasSuffix(f[1], suffix) {
			continue
		}
		inodes = append(inodes, f[9])
		if n, err := strconv.Atoi(f[7]); err == nil && uid < 0 {
			uid = n
		}
	}
	return inodes, uid
}

// processOf finds the process that holds one of the socket inodes. Processes
// of other users are invisible without privileges.
func processOf(inodes []string) (pid int, name string) {
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return 0, ""
	}
	for _, p := range procs {
		id, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		dir := filepath.Join("/proc", p.Name(), "fd")
		fds, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			link, err := os.Readlink(filepath.Join(dir, fd.Name()))
			if err != nil || !strings.HasPrefix(link, "socket:[") {
				continue
			}
			if slices.Contains(inodes, strings.TrimSuffix(strings.TrimPrefix(link, "socket:["), "]")) {
				return id, processName(id)
			}
		}
	}
	return 0, ""
}

func processName(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return "of unknown name"
	}
	return strings.TrimSpace(string(b))
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return "number " + strconv.Itoa(uid)
}
