package hook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/portreeve/portreeve/internal/config"
)

const (
	maxOutput = 64 << 10 // of a program that is kept, in octets; the rest is read and dropped
	exitNo    = 77       // EX_NOPERM of sysexits.h: a program refuses
)

// program runs a program of the configuration file: no shell, its own process
// group, a clean environment, no descriptor of the server.
type program struct {
	argv []string
}

func newProgram(h *config.Hook) (*program, error) {
	p := &program{argv: h.Program}
	return p, trusted(p.argv[0])
}

// trusted refuses a program that somebody other than root and the server's
// user could have put there.
func trusted(name string) error {
	st, err := os.Stat(name)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
		return fmt.Errorf("%s is not a program", name)
	}
	if st.Mode()&0o022 != 0 {
		return fmt.Errorf("others may write to the program %s; take that away: chmod go-w %s", name, name)
	}
	if uid, ok := owner(st); ok && uid != 0 && uid != os.Geteuid() {
		return fmt.Errorf("the program %s belongs to uid %d; it must belong to root or to the server's user", name, uid)
	}
	real, err := filepath.EvalSymlinks(name)
	if err != nil {
		return err
	}
	for _, path := range []string{name, real} { // a link is as good as the worse of its two ends
		if err := trustedDirs(name, filepath.Dir(path)); err != nil {
			return err
		}
	}
	return nil
}

// trustedDirs checks the directories on the way to a program.
func trustedDirs(name, dir string) error {
	for ; ; dir = filepath.Dir(dir) {
		st, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if st.Mode()&0o002 != 0 && st.Mode()&os.ModeSticky == 0 {
			return fmt.Errorf("everybody may write to the directory %s, so to the program %s too; move it, or: chmod o-w %s", dir, name, dir)
		}
		if uid, ok := owner(st); ok && uid != 0 && uid != os.Geteuid() {
			return fmt.Errorf("the directory %s belongs to uid %d, who could put another program in the place of %s; move it, or: chown root %s", dir, uid, name, dir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

func (p *program) deliver(ctx context.Context, ms []message) error {
	for i := range ms {
		if out, err := p.run(ctx, &ms[i]); err != nil {
			return told(err, out)
		}
	}
	return nil
}

// ask takes exit code 0 as yes and 77 as no, with the first line of standard
// output as the reason. Everything else is a failure, and no answer.
func (p *program) ask(ctx context.Context, m message) (answer, error) {
	out, err := p.run(ctx, &m)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return answer{}, nil
	case errors.As(err, &exit) && exit.ExitCode() == exitNo:
		return answer{refused: true, reason: firstLine(out.out.Bytes())}, nil
	}
	return answer{}, told(err, out)
}

// told adds the first line of what the program said.
func told(err error, out *output) error {
	line := firstLine(out.err.Bytes())
	if line == "" {
		line = firstLine(out.out.Bytes())
	}
	if line != "" {
		return fmt.Errorf("the program failed (%w): %s", err, line)
	}
	return fmt.Errorf("the program failed: %w", err)
}

type output struct{ out, err bounded }

// run runs the program once; ctx's end kills it with all it started.
func (p *program) run(ctx context.Context, m *message) (*output, error) {
	out := &output{}
	if err := trusted(p.argv[0]); err != nil { // it may have been replaced since the start
		return out, err
	}
	cmd := exec.CommandContext(ctx, p.argv[0], p.argv[1:]...)
	cmd.Dir = "/"
	cmd.Env = environment(m)
	cmd.Stdin = bytes.NewReader(m.body)
	cmd.Stdout, cmd.Stderr = &out.out, &out.err
	cmd.WaitDelay = time.Second // for pipes that something outside the group holds
	err := runGroup(cmd)
	if ctx.Err() != nil && err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return out, errors.New("it was killed because it did not end within the timeout")
		}
		return out, ctx.Err()
	}
	return out, err
}

func (p *program) target() string { return p.argv[0] }

func (p *program) close() {}

// bounded keeps the beginning of what is written to it and takes the rest.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if room := maxOutput - b.Len(); room > 0 {
		b.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
