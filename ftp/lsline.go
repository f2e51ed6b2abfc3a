package ftp

import (
	"io/fs"
	"strconv"
	"time"
)

// appendName appends a name as listings show it: control bytes become "?" and
// their two hex digits, so that no name can forge a line.
func appendName(b []byte, name string) []byte {
	const hexDigits = "0123456789ABCDEF"
	for i := 0; i < len(name); i++ {
		if ch := name[i]; ch < 0x20 || ch == 0x7f {
			b = append(b, '?', hexDigits[ch>>4], hexDigits[ch&15])
		} else {
			b = append(b, ch)
		}
	}
	return b
}

// appendLong appends a line in the form of ls -l.
func (l *lister) appendLong(b []byte, prefix string, i *Info) []byte {
	b = appendMode(b, i.Mode)
	b = appendNumber(b, int64(max(i.Links, 1)), 4)
	b = append(b, ' ')
	b = appendLeft(b, i.Owner, 8)
	b = append(b, ' ')
	b = appendLeft(b, i.Group, 8)
	b = appendNumber(b, i.Size, 13)
	b = append(b, ' ')
	b = appendDate(b, l.now, i.ModTime)
	b = append(b, ' ')
	b = appendName(appendName(b, prefix), i.Name)
	if i.Mode&fs.ModeSymlink != 0 && i.Target != "" {
		b = appendName(append(b, " -> "...), i.Target)
	}
	return append(b, '\r', '\n')
}

// appendDate appends the date of ls -l: with the time of day for half a year,
// with the year otherwise. By hand, since time.AppendFormat would be the
// largest part of a line's cost.
func appendDate(b []byte, now, mod time.Time) []byte {
	t := mod.UTC()
	y, m, d := t.Date()
	b = append(b, m.String()[:3]...)
	b = append(b, ' ', padded(d/10), byte('0'+d%10), ' ')
	if age := now.Sub(t); age > 182*24*time.Hour || age < -24*time.Hour {
		if y < 0 || y > 9999 { // no four digits
			return t.AppendFormat(append(b, ' '), "2006")
		}
		return append(b, ' ', byte('0'+y/1000), byte('0'+y/100%10), byte('0'+y/10%10), byte('0'+y%10))
	}
	hh, mm, _ := t.Clock()
	return append(b, byte('0'+hh/10), byte('0'+hh%10), ':', byte('0'+mm/10), byte('0'+mm%10))
}

// padded is the first digit of a day, or the space in its place.
func padded(digit int) byte {
	if digit == 0 {
		return ' '
	}
	return byte('0' + digit)
}

func appendMode(b []byte, m fs.FileMode) []byte {
	k := byte('-')
	switch {
	case m.IsDir():
		k = 'd'
	case m&fs.ModeSymlink != 0:
		k = 'l'
	case m&fs.ModeNamedPipe != 0:
		k = 'p'
	case m&fs.ModeSocket != 0:
		k = 's'
	case m&fs.ModeCharDevice != 0:
		k = 'c'
	case m&fs.ModeDevice != 0:
		k = 'b'
	}
	b = append(b, k)
	const rwx = "rwxrwxrwx"
	for i := range rwx {
		if m&(1<<(8-i)) != 0 {
			b = append(b, rwx[i])
		} else {
			b = append(b, '-')
		}
	}
	return b
}

// appendNumber appends n to the right of a column and the space before it.
func appendNumber(b []byte, n int64, width int) []byte {
	var digits [20]byte
	s := strconv.AppendInt(digits[:0], n, 10)
	b = append(b, ' ')
	for i := len(s); i < width; i++ {
		b = append(b, ' ')
	}
	return append(b, s...)
}

func appendLeft(b []byte, s string, width int) []byte {
	if s == "" {
		s = "ftp"
	}
	b = append(b, s...)
	for i := len(s); i < width; i++ {
		b = append(b, ' ')
	}
	return b
}

func (l *lister) appendBare(b []byte, prefix string, i *Info) []byte {
	b = appendName(appendName(b, prefix), i.Name)
	if l.opt.classify && i.IsDir() {
		b = append(b, '/')
	}
	return append(b, '\r', '\n')
}
