package main

import (
	"path/filepath"

	"renewd/agent"
	"renewd/agent/config"
	"renewd/platform/atomicfile"
	"renewd/sink"
	"renewd/sink/file"
)

// sink makes one file sink.
func (b *builder) sink(name string, s *config.Sink) (*file.Sink, error) {
	format, err := sink.New(sink.Options{Format: s.Format, Newline: s.Newline, Machine: s.Machine, Login: s.Login, Template: s.Template})
	if err != nil {
		return nil, err
	}
	path, err := file.Path(b.paths.Tokens(), s.Path, name, format)
	if err != nil {
		return nil, err
	}
	o := file.Options{Path: filepath.Clean(path), Format: format, Writer: b.writer, TokensDir: b.paths.Tokens(), Log: b.log,
		OnExpiry: policy(s.OnExpiry), OnStop: policy(s.OnStop), Access: atomicfile.Access{Owner: s.Owner, Group: s.Group}}
	if s.Mode != nil {
		if err := modeAllowed(); err != nil {
			return nil, err
		}
		o.Access.Mode = fileMode(*s.Mode)
	}
	return file.New(o)
}

// presented says how the tokens of a source are shown to their API; src may be nil.
func presented(src agent.Source) (p agent.Presentation) {
	if src != nil && src.Traits().Presentation != nil {
		p = *src.Traits().Presentation
	}
	return p
}

func policy(s string) file.Policy {
	if s == "remove" {
		return file.Remove
	}
	return file.Keep
}
