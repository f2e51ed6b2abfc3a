package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// terminal returns the descriptor of x when it is a terminal.
func terminal(x any) (fd int, ok bool) {
	f, ok := x.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	return int(f.Fd()), true
}

// confirm asks a yes-or-no question on the terminal. Without a terminal the
// answer is an error that names --yes.
func (a *app) confirm(question string) error {
	if _, ok := terminal(a.in); !ok {
		return errors.New("this needs a confirmation, and there is no terminal to ask on; repeat the command with --yes")
	}
	fmt.Fprintf(a.err, "%s [y/N] ", question)
	line, err := bufio.NewReader(a.in).ReadString('\n')
	if err != nil && line == "" {
		return errors.New("no answer; nothing was done")
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was done")
}

// maxPassword bounds what is read from a pipe, in octets.
const maxPassword = 4096

// readPassword takes the first line of standard input, without its line end.
func (a *app) readPassword() (string, error) {
	line, err := bufio.NewReader(io.LimitReader(a.in, maxPassword+2)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("cannot read the password from standard input: %w", err)
	}
	line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	switch {
	case line == "":
		return "", errors.New("standard input holds no password; the first line is taken as it")
	case len(line) > maxPassword:
		return "", fmt.Errorf("the password on standard input is longer than %d bytes", maxPassword)
	}
	return line, nil
}

// askPassword asks twice, without echo.
func (a *app) askPassword(name string) (string, error) {
	fd, ok := terminal(a.in)
	if !ok {
		return "", errors.New("there is no terminal to ask for the password on; use --password-stdin or --generate")
	}
	var given [2]string
	for i, prompt := range []string{"Password for " + name + ": ", "Once more: "} {
		fmt.Fprint(a.err, prompt)
		b, err := term.ReadPassword(fd)
		fmt.Fprintln(a.err)
		if err != nil {
			return "", fmt.Errorf("cannot read the password: %w", err)
		}
		given[i] = string(b)
	}
	switch {
	case given[0] != given[1]:
		return "", errors.New("the two passwords differ; nothing was done")
	case given[0] == "":
		return "", errors.New("the password is empty; nothing was done")
	}
	return given[0], nil
}
