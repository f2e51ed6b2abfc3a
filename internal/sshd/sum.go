package sshd

import (
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"github.com/portreeve/portreeve/internal/fault"
)

// sumCommands are the checksum programs there seem to be, with their algorithm.
var sumCommands = map[string]string{
	"md5sum": "md5", "sha1sum": "sha1", "sha224sum": "sha224", "sha256sum": "sha256", "sha384sum": "sha384", "sha512sum": "sha512",
}

// sum prints checksums of files of the user's tree, or of standard input, as
// the programs of GNU do.
func (r *run) sum(name string, args []word) int {
	var files []string
	options := true
	for _, a := range args {
		switch {
		case options && a.text == "--":
			options = false
		case options && (a.text == "-b" || a.text == "-t"):
		case options && len(a.text) > 1 && a.text[0] == '-':
			return r.complain(name, fmt.Sprintf("the option %s is not available", plain(a.text)))
		case a.text == "-":
			files = append(files, "")
		default:
			files = append(files, r.expand(a)...)
		}
	}
	if len(files) == 0 {
		files = []string{""}
	}
	code := 0
	for _, f := range files {
		if err := r.sumOf(name, f); err != nil {
			r.complain(name, plain(f)+": "+answerTo(err).text)
			code = 1
		}
	}
	return code
}

func (r *run) sumOf(name, file string) error {
	h := hashes[sumCommands[name]]()
	b := dataBuffers.Get().(*[]byte)
	defer dataBuffers.Put(b)
	from, label := r.in, "-"
	if file != "" {
		f, err := r.s.Open(r.ctx, file, 0)
		if err != nil {
			return err
		}
		r.s.Note(name, file)
		defer f.Close(nil)
		from, label = f, file
	}
	for {
		n, err := from.Read(*b)
		r.touch()
		h.Write((*b)[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if r.ctx.Err() != nil {
			return fault.New(fault.Canceled, name, file, r.ctx.Err())
		}
	}
	line := hex.EncodeToString(h.Sum(nil)) + "  " + label + "\n"
	if strings.ContainsAny(label, "\\\n\r") { // as GNU marks names that it escapes
		label = strings.NewReplacer("\\", `\\`, "\n", `\n`, "\r", `\r`).Replace(label)
		line = "\\" + hex.EncodeToString(h.Sum(nil)) + "  " + label + "\n"
	}
	_, err := io.WriteString(r.out, line)
	return err
}
