package ftpd

import (
	"io/fs"

	"github.com/portreeve/portreeve/internal/account"
)

// permFact returns the letters of RFC 3659 section 7.5.5 for a file or
// directory on which the user has rights r.
func permFact(r account.Rights, mode fs.FileMode) string {
	var b [10]byte
	s := b[:0]
	add := func(c byte, need account.Rights) {
		if r&need != 0 {
			s = append(s, c)
		}
	}
	if mode.IsDir() {
		add('c', account.Upload)
		add('d', account.Rmdir)
		s = append(s, 'e') // CWD needs no right of its own
		add('f', account.Rename)
		add('l', account.List)
		add('m', account.Mkdir)
		add('p', account.Delete|account.Rmdir)
		return string(s)
	}
	add('a', account.Append)
	add('d', account.Delete)
	add('f', account.Rename)
	add('r', account.Download)
	add('w', account.Overwrite)
	return string(s)
}
