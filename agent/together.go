package agent

import "unsafe"

// together is a Publication and the texts that a read of it copies, in one piece of
// memory: of a token that nobody has read for long every other piece costs a read as
// much again.
type together[Text any] struct {
	Publication
	token string // what Publication.Token points to
	text  Text   // the token, then the name
}

func makeTogether[Text any]() (p *Publication, token *string, text *byte) {
	t := new(together[Text])
	return &t.Publication, &t.token, (*byte)(unsafe.Pointer(&t.text))
}

// newPublication begins a Publication of a token. The sizes of text are those that
// fill what package runtime allocates; longer ones stand for themselves.
func newPublication(name string, token Secret) *Publication {
	value := token.Reveal()
	size := len(value) + len(name)
	if size == 0 {
		return &Publication{}
	}
	var p *Publication
	var inside *string
	var text *byte
	switch {
	case size <= 320:
		p, inside, text = makeTogether[[320]byte]()
	case size <= 568:
		p, inside, text = makeTogether[[568]byte]()
	case size <= 824:
		p, inside, text = makeTogether[[824]byte]()
	case size <= 1080:
		p, inside, text = makeTogether[[1080]byte]()
	case size <= 1336:
		p, inside, text = makeTogether[[1336]byte]()
	case size <= 1592:
		p, inside, text = makeTogether[[1592]byte]()
	case size <= 1848:
		p, inside, text = makeTogether[[1848]byte]()
	case size <= 2488:
		p, inside, text = makeTogether[[2488]byte]()
	case size <= 3256:
		p, inside, text = makeTogether[[3256]byte]()
	default:
		p = &Publication{Name: name, Token: token}
		p.prepare()
		return p
	}
	room := unsafe.Slice(text, size)
	copy(room[copy(room, value):], name)
	p.Name = unsafe.String((*byte)(unsafe.Add(unsafe.Pointer(text), len(value))), len(name))
	if value != "" {
		*inside = unsafe.String(text, len(value))
		p.Token = Secret{inside}
	}
	p.prepare()
	return p
}
