//go:build lab

// Package netlab runs the real server, the doctor and real clients in networks
// made of network namespaces: routers with NAT, firewalls, the kernel's FTP
// helper, and boxes that meddle with the dialogue. Everything lives in one
// private network and mount namespace that disappears with the test process,
// so nothing outside is touched and nothing is left behind.
package netlab

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

const insideVar = "PORTREEVE_LAB_INSIDE"

// notPermitted is the exit code of a lab that may not furnish its namespaces.
const notPermitted = 77

// atOnce is how many topologies are examined at the same time.
const atOnce = 16

// TestMain builds the program, and then runs the tests again inside the
// private namespaces.
func TestMain(m *testing.M) {
	if os.Getenv(toolVar) != "" {
		os.Exit(tool(os.Args[1:]))
	}
	if os.Getenv(insideVar) != "" {
		if err := furnish(); err != nil {
			fmt.Fprintln(os.Stderr, "netlab:", err)
			if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
				os.Exit(notPermitted)
			}
			os.Exit(1)
		}
		flag.Parse()
		if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
			f.Value.Set(strconv.Itoa(atOnce)) // topologies mostly wait for timeouts, so the number of processors is no measure
		}
		os.Exit(m.Run())
	}
	os.Exit(outside())
}

func outside() int {
	dir, err := os.MkdirTemp("", "portreeve-lab")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "portreeve"), "github.com/portreeve/portreeve/cmd/portreeve")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return 1
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideVar+"="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 { // root over nothing but the lab
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	err = cmd.Run()
	if cmd.ProcessState != nil && cmd.ProcessState.ExitCode() != notPermitted {
		return cmd.ProcessState.ExitCode()
	}
	fmt.Fprintf(os.Stderr, "netlab: this system does not let us make network namespaces (%v), so none of the %d networks was built; run as root with CAP_SYS_ADMIN and CAP_NET_ADMIN, or permit unprivileged user namespaces\n", err, len(everything()))
	return 0
}

// furnish makes the private parts of the file system: namespaces get their
// names under /run, and the hosts of the lab are in /etc/hosts.
func furnish() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := syscall.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	hosts := filepath.Join(os.Getenv(insideVar), "hosts")
	text := "127.0.0.1 localhost\n::1 localhost\n" + routerOuter + " ftp.example.org\n" + serverPublic + " both.lab\n" + server6 + " both.lab\n"
	if err := os.WriteFile(hosts, []byte(text), 0o644); err != nil {
		return err
	}
	if err := syscall.Mount(hosts, "/etc/hosts", "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount /etc/hosts: %w", err)
	}
	for _, tool := range []string{"ip", "nft", "curl", "sysctl"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is needed; \"make tools\" installs what the tests use", tool)
		}
	}
	return nil
}
