// nsc is NATS' own tool for operators, accounts and users. It is built here because the checksum database of Go does not
// know its module, so that `go install` refuses it: go.sum beside this file pins it.
package main

import "github.com/nats-io/nsc/v2/cmd"

func main() { cmd.Execute() }
