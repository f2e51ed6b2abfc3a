// Command portreeve is the whole program: the server and the commands that
// administer it. Each file here is one top-level command: flags, arguments and
// output. What they do is in internal/server, internal/admin and internal/api.
package main

import "os"

func main() {
	os.Exit(newApp(os.Stdin, os.Stdout, os.Stderr, os.Environ()).run(os.Args[1:]))
}
