package ftp_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"github.com/portreeve/portreeve/ftp"
)

// A client that insists on TLS, lists a directory and resumes a download.
func ExampleDial() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := ftp.Dial(ctx, "ftp.example.com", ftp.ClientOptions{TLS: ftp.ExplicitTLS})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(ctx, "ann", os.Getenv("FTP_PASSWORD")); err != nil {
		log.Fatal(err)
	}
	for e, err := range c.List(ctx, "reports") {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(e.Name, e.Size, e.ModTime)
	}
	f, err := os.OpenFile("report.pdf", os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	have, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		log.Fatal(err)
	}
	r, err := c.Retrieve(ctx, "reports/report.pdf", have)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	if _, err := io.Copy(f, r); err != nil {
		log.Fatal(err)
	}
}

func ExampleParseEPRT() {
	ap, err := ftp.ParseEPRT("|2|1080::8:800:200C:417A|5282|")
	fmt.Println(ap, err)
	// Output: [1080::8:800:200c:417a]:5282 <nil>
}
