package vfstest

import (
	"io"

	"github.com/portreeve/portreeve/internal/vfs"
)

func testReaderAbilities(s *tree) {
	s.put("/f", "0123456789")
	r, err := s.Open(s.ctx, "/f", 4)
	s.ok(err)
	if at, ok := r.(io.ReaderAt); ok {
		b := make([]byte, 3)
		if n, err := at.ReadAt(b, 1); n != 3 || err != nil || string(b) != "123" {
			s.Errorf("ReadAt gives %q, %v", b[:n], err)
		}
		if n, err := at.ReadAt(b, 9); n != 1 || err != io.EOF {
			s.Errorf("ReadAt over the end gives %d, %v", n, err)
		}
	}
	if f := vfs.OSFile(r); f != nil {
		if pos, err := f.Seek(0, io.SeekCurrent); pos != 4 || err != nil {
			s.Errorf("the file stands at %d, %v; want 4", pos, err)
		}
	}
	if sk, ok := r.(io.Seeker); ok {
		if pos, err := sk.Seek(-2, io.SeekEnd); pos != 8 || err != nil {
			s.Errorf("Seek gives %d, %v", pos, err)
		}
		if b, err := io.ReadAll(r); string(b) != "89" || err != nil {
			s.Errorf("after Seek: %q, %v", b, err)
		}
	}
	s.ok(r.Close())
	if _, err := r.Read(make([]byte, 1)); err == nil || err == io.EOF {
		s.Errorf("reading a closed file gives %v", err)
	}
}

func testWriteAt(s *tree) {
	s.put("/f", "0123456789")
	w := s.create("/f", vfs.CreateOptions{Offset: 2})
	at, ok := w.(io.WriterAt)
	if !ok {
		s.lacks("io.WriterAt")
		s.ok(w.Abort(errCut))
		return
	}
	_, err := at.WriteAt([]byte("DE"), 5)
	s.ok(err)
	_, err = at.WriteAt([]byte("abc"), 2)
	s.ok(err)
	s.ok(w.Commit(s.ctx))
	s.holds("/f", "01abcDE")
	w = s.create("/f", vfs.CreateOptions{Offset: 3})
	if f := vfs.OSFile(w); f != nil { // the engine may write past us
		_, err = f.Write([]byte("kernel"))
	} else {
		_, err = w.Write([]byte("kernel"))
	}
	s.ok(err)
	s.ok(w.Commit(s.ctx))
	s.holds("/f", "01akernel")
}
