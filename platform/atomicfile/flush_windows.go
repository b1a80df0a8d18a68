package atomicfile

type flusher struct{}
