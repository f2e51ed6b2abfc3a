//go:build unix

package auth

import (
	"os/exec"
	"syscall"
)

// ownGroup lets the end of the deadline reach what the program has started.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
