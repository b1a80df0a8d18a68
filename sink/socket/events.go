package socket

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"renewd/agent"
)

// eventStream sends what changes as server-sent events. A reader that does not
// keep up is cut: by the agent when too many events wait for it, by the write
// deadline when its socket is full.
func (s *Server) eventStream(w http.ResponseWriter, r *http.Request) {
	c := connOf(r)
	q, wrong := query(r, "name")
	if wrong != "" {
		badRequest(w, wrong)
		return
	}
	names := q["name"]
	if _, ok := s.visible(c, names); !ok {
		refuseNames(w, c)
		return
	}
	sub, missed, resumed := s.o.Agent.Subscribe(s.lastEventID(r))
	defer sub.Close()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("Connection", "close") // a stream that ends was cut; its connection goes too
	w.WriteHeader(http.StatusOK)
	rc := http.NewResponseController(w)
	if !resumed {
		missed = s.standing(c, names)
	}
	if _, err := fmt.Fprint(w, ": renewd\n\n"); err != nil {
		return
	}
	for _, e := range missed {
		if s.send(w, c, names, e) != nil {
			return
		}
	}
	for rc.Flush() == nil {
		select {
		case e, ok := <-sub.C:
			if !ok || s.send(w, c, names, e) != nil {
				return
			}
		case <-r.Context().Done():
			return
		case <-s.base.Done():
			return
		}
		for more := true; more; { // one flush for a burst
			select {
			case e, ok := <-sub.C:
				if !ok || s.send(w, c, names, e) != nil {
					return
				}
			default:
				more = false
			}
		}
	}
}

// lastEventID is where to resume. IDs carry the process they are of: one of an
// earlier process names nothing here.
func (s *Server) lastEventID(r *http.Request) uint64 {
	of, id, ok := strings.Cut(r.Header.Get("Last-Event-ID"), "-")
	if !ok || of != s.epoch {
		return 0
	}
	n, err := strconv.ParseUint(id, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// standing is one state per token, for who has nothing to resume from.
func (s *Server) standing(c *conn, names []string) (list []agent.Event) {
	tokens, _ := s.visible(c, names)
	now := s.o.Agent.Now().Wall
	for _, t := range tokens {
		st := t.Status()
		list = append(list, agent.Event{Kind: agent.EventState, Name: st.Name, Generation: st.Generation,
			Revision: st.Revision, State: st.State, Time: now})
	}
	return list
}

// send writes one event, if the caller may see its token now.
func (s *Server) send(w http.ResponseWriter, c *conn, names []string, e agent.Event) error {
	if len(names) > 0 && !slices.Contains(names, e.Name) {
		return nil
	}
	if !c.manager {
		if t, ok := s.o.Agent.Token(e.Name); !ok || !c.mayRead(t.Access()) {
			return nil
		}
	}
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "id: %s-%d\nevent: %s\ndata: %s\n\n", s.epoch, e.ID, e.Kind, data)
	return err
}
