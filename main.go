// Command qosctl keeps jobs on Apache Mesos to their deadlines. See package cli for its commands.
package main

import (
	"os"

	"qosctl/cli"
)

func main() {
	os.Exit(cli.Main())
}
