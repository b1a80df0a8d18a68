package main

import "os"

func stopSignals() []os.Signal { return []os.Signal{os.Interrupt} }

// reloadSignals: Windows has none; `renewd reload` and the watched file do.
func reloadSignals() []os.Signal { return nil }
