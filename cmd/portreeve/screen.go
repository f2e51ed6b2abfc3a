package main

import (
	"errors"
	"io"
	"strings"

	"golang.org/x/term"
)

// screen is the terminal while a view owns it.
type screen struct {
	out   io.Writer
	outFD int
	inFD  int
	old   *term.State
	quit  chan struct{} // closed by q, Q, Escape or Ctrl-C
}

// openScreen switches to the alternate screen and reads keys one by one.
func openScreen(in io.Reader, out io.Writer) (*screen, error) {
	outFD, ok := terminal(out)
	if !ok {
		return nil, errors.New("this view needs a terminal")
	}
	s := &screen{out: out, outFD: outFD, quit: make(chan struct{})}
	if inFD, ok := terminal(in); ok {
		old, err := term.MakeRaw(inFD)
		if err != nil {
			return nil, err
		}
		s.inFD, s.old = inFD, old
		// The read cannot be interrupted; the goroutine ends with the process,
		// which is what follows the view.
		go s.keys(in)
	}
	io.WriteString(out, "\x1b[?1049h\x1b[?25l")
	return s, nil
}

func (s *screen) keys(in io.Reader) {
	b := make([]byte, 16)
	for {
		n, err := in.Read(b)
		if err != nil {
			return
		}
		if strings.ContainsAny(string(b[:n]), "qQ\x03\x1b") {
			close(s.quit)
			return
		}
	}
}

func (s *screen) close() {
	io.WriteString(s.out, "\x1b[?25h\x1b[?1049l")
	if s.old != nil {
		term.Restore(s.inFD, s.old)
	}
}

func (s *screen) size() (width, height int) {
	width, height, err := term.GetSize(s.outFD)
	if err != nil || width < 20 || height < 5 {
		return 80, 24
	}
	return width, height
}

// draw replaces the screen in one write, so that it does not flicker.
func (s *screen) draw(lines []string) {
	var b strings.Builder
	b.WriteString("\x1b[H")
	for i, l := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(l)
		b.WriteString("\x1b[K")
	}
	b.WriteString("\x1b[J")
	io.WriteString(s.out, b.String())
}

// clip cuts text to a number of characters.
func clip(s string, width int) string {
	r := []rune(plain(s))
	if len(r) <= width {
		return string(r)
	}
	return string(r[:max(width-1, 0)]) + "~"
}

// clipLeft cuts text in front: of a path the end tells most.
func clipLeft(s string, width int) string {
	r := []rune(plain(s))
	if len(r) <= width {
		return string(r)
	}
	return "~" + string(r[len(r)-width+1:])
}
