package ftp

import "io"

// asciiReader turns the lines of a local text (LF) into network form (CRLF)
// as RFC 959 section 3.1.1.1 asks. A CR that already stands before LF is not
// doubled, so that texts with CRLF arrive as they are.
type asciiReader struct {
	src  io.Reader
	buf  []byte
	r, w int
	cr   bool // the last byte given out was CR
	lf   bool // a CR was given out for the LF that is next
	err  error
}

func newASCIIReader(src io.Reader) *asciiReader {
	return &asciiReader{src: src, buf: make([]byte, 32<<10)}
}

func (a *asciiReader) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if a.r == a.w {
			if a.err != nil || n > 0 {
				break
			}
			a.r = 0
			a.w, a.err = a.src.Read(a.buf)
			if a.w == 0 {
				if a.err == nil {
					continue
				}
				break
			}
		}
		ch := a.buf[a.r]
		if ch == '\n' && !a.cr && !a.lf {
			p[n] = '\r'
			n++
			a.lf = true
			continue
		}
		a.lf, a.cr = false, ch == '\r'
		p[n] = ch
		n++
		a.r++
	}
	if n > 0 {
		return n, nil
	}
	return 0, a.err
}

// asciiWriter is the reverse: CRLF becomes LF, every other byte stays,
// a CR that is not before LF included.
type asciiWriter struct {
	dst io.Writer
	buf []byte
	cr  bool // a CR is held back until the next byte is known
}

func (a *asciiWriter) Write(p []byte) (int, error) {
	a.buf = a.buf[:0]
	for _, ch := range p {
		if a.cr && ch != '\n' {
			a.buf = append(a.buf, '\r')
		}
		if a.cr = ch == '\r'; !a.cr {
			a.buf = append(a.buf, ch)
		}
	}
	if _, err := a.dst.Write(a.buf); err != nil {
		return 0, err
	}
	return len(p), nil
}

// flush writes a CR that ended the text.
func (a *asciiWriter) flush() error {
	if !a.cr {
		return nil
	}
	a.cr = false
	_, err := a.dst.Write([]byte{'\r'})
	return err
}
