package main

import (
	"io"

	"renewd/agent/config"
)

func checkSinksAsService(_, ew io.Writer, _ checkOptions, _ *config.Config, made *built, b *builder) error {
	return sinkProblems(ew, made, b.paths)
}
