package hook

import (
	"io/fs"
	"os/exec"
	"syscall"
)

// runGroup runs cmd in a process group of its own and kills what is left of
// the group when it ends or its context does.
func runGroup(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if err := cmd.Start(); err != nil {
		return err
	}
	pid := cmd.Process.Pid
	ended(pid)
	// The leader is not reaped yet, so its number cannot be somebody else's.
	_ = syscall.Kill(-pid, syscall.SIGKILL) // nobody left is fine
	return cmd.Wait()
}

const (
	pPID    = 1 // idtype P_PID of waitid(2)
	wExited = 0x4
	wNoWait = 0x01000000
)

// ended returns when the process has ended, and leaves it to be reaped.
func ended(pid int) {
	for {
		_, _, e := syscall.Syscall6(syscall.SYS_WAITID, pPID, uintptr(pid), 0, wExited|wNoWait, 0, 0)
		if e != syscall.EINTR {
			return
		}
	}
}

// owner is the uid a file belongs to.
func owner(st fs.FileInfo) (int, bool) {
	s, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(s.Uid), true
}
