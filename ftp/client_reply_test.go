package ftp

import (
	"bufio"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

// RFC 959 section 4.2: one line, or code-hyphen to code-space.
func TestReadReply(t *testing.T) {
	tests := []struct {
		in   string
		want Reply
		rest string
	}{
		{"220 Hello\r\n", Reply{Code: 220, Text: "Hello"}, ""},
		{"220 Hello\n331 x\r\n", Reply{Code: 220, Text: "Hello"}, "331 x\r\n"},
		{"226\r\n", Reply{Code: 226}, ""},
		{"226 \r\n", Reply{Code: 226}, ""},
		{"123-First line\r\nSecond line\r\n  234 A line beginning with numbers\r\n123 The last line\r\n",
			Reply{Code: 123, Lines: []string{"First line", "Second line", "  234 A line beginning with numbers"}, Text: "The last line"}, ""},
		{"211-A\r\n211-B\r\n212 not the end\r\n211-\r\n211 End\r\n", Reply{Code: 211, Lines: []string{"A", "B", "212 not the end", ""}, Text: "End"}, ""},
		{"211-A\r\n 211 not the end\r\n2111 not the end\r\n211 End\r\n", Reply{Code: 211, Lines: []string{"A", " 211 not the end", "2111 not the end"}, Text: "End"}, ""},
		{"211-A\r\n211\r\n", Reply{Code: 211, Lines: []string{"A"}}, ""},
		{"631 protected\r\n", Reply{Code: 631, Text: "protected"}, ""},
		{"200 a\xff\xffb\xff\xf1c\xff\xfb\x01d\xff\r\n", Reply{Code: 200, Text: "a\xffbcd\xff"}, ""},
	}
	for _, tt := range tests {
		br := bufio.NewReader(strings.NewReader(tt.in))
		got, err := readReply(br, nil)
		rest, _ := io.ReadAll(br)
		if err != nil || !reflect.DeepEqual(got, tt.want) || string(rest) != tt.rest {
			t.Errorf("%q: %+v, %v, rest %q", tt.in, got, err, rest)
		}
	}
}

func TestReadReplyMalformed(t *testing.T) {
	tests := []string{
		"Hello\r\n", "20 x\r\n", "2x0 x\r\n", "099 x\r\n", "700 x\r\n", "200x\r\n", "\r\n", "-1 x\r\n", "\x16\x03\x01\r\n",
		"220 " + strings.Repeat("x", maxReplyLine) + "\r\n",
		"211-" + strings.Repeat("x\r\n", maxReplyLines+1) + "211 End\r\n",
		"211-" + strings.Repeat(strings.Repeat("x", 10000)+"\r\n", maxReplyBytes/10000+1) + "211 End\r\n",
	}
	for _, in := range tests {
		var pe *ProtocolError
		if _, err := readReply(bufio.NewReader(strings.NewReader(in)), nil); !errors.As(err, &pe) || len(pe.Line) > 100 || pe.Error() == "" {
			t.Errorf("%q: %v", clip(in), err)
		}
	}
	for _, in := range []string{"220 Hel", "211-A\r\n", "211-A\r\nB"} {
		if _, err := readReply(bufio.NewReader(strings.NewReader(in)), nil); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q: %v", in, err)
		}
	}
	if _, err := readReply(bufio.NewReader(strings.NewReader("")), nil); err != io.EOF {
		t.Error(err)
	}
}

func FuzzReply(f *testing.F) {
	for _, s := range []string{"220 Hello\r\n", "211-A\r\n B\r\n211 End\r\n", "226\r\n", "123-\r\n124 x\r\n123 \r\n", "200 \xff\xff\xff\xf1\r\n", "999 x\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := readReply(bufio.NewReader(strings.NewReader(string(in))), nil)
		if err != nil {
			return
		}
		if r.Code < 100 || r.Code > 699 || strings.Contains(r.Text+strings.Join(r.Lines, ""), "\n") {
			t.Fatalf("%q: %+v", in, r)
		}
		// What this package's server writes of it, the client reads again.
		again, err := readReply(bufio.NewReader(strings.NewReader(string(appendReply(nil, r)))), nil)
		if err != nil || again.Code != r.Code || len(again.Lines) != len(r.Lines) {
			t.Fatalf("%q: %+v became %+v, %v", in, r, again, err)
		}
	})
}

func TestReplyErr(t *testing.T) {
	if err := (Reply{Code: 226, Text: "x"}).Err(); err != nil {
		t.Error(err)
	}
	err := (Reply{Code: 550, Lines: []string{"No", " such"}, Text: "file"}).Err()
	var fe *Error
	if !errors.As(err, &fe) || fe.Code != 550 || fe.Message != "No  such file" {
		t.Errorf("%#v", err)
	}
}

func TestRedactLine(t *testing.T) {
	for in, want := range map[string]string{"PASS secret": "PASS ****", "pass a b": "pass ****", "ACCT x": "ACCT ****", "ADAT x": "ADAT ****",
		"PASS": "PASS", "USER ann": "USER ann", "RETR PASS x": "RETR PASS x"} {
		if got := redactLine(in); got != want {
			t.Errorf("%q became %q", in, got)
		}
	}
}
