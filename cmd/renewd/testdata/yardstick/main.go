// Command yardstick links what any client of HTTP links, for TestNoWorkAtStart.
package main

import (
	"net/http"
	"os"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "never" {
		_, _ = http.Get(os.Args[1])
	}
}
