// Package report writes what a client hears, as the README of these clients says.
package report

import (
	"encoding/json"
	"net/http"
	"os"
	"sync"
)

var (
	lock   sync.Mutex
	output = json.NewEncoder(os.Stdout)

	// The status of the last answer, unless that is a stream.
	refusal *int
)

func write(line map[string]any) {
	lock.Lock()
	defer lock.Unlock()
	if err := output.Encode(line); err != nil {
		panic(err)
	}
}

// Event reports an event.
func Event(event, data, id string) {
	if event == "" {
		event = "message"
	}
	write(map[string]any{"event": event, "data": data, "id": id})
}

// Closed reports that the client does not come back.
func Closed() {
	write(map[string]any{"state": "closed", "status": refusal})
}

// Streams reports every stream that is opened, whichever library asks for it.
func Streams() {
	http.DefaultTransport = watched{http.DefaultTransport}
}

type watched struct{ http.RoundTripper }

func (transport watched) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := transport.RoundTripper.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode == http.StatusOK {
		refusal = nil
		write(map[string]any{"state": "open"})
	} else {
		refusal = &response.StatusCode
	}
	return response, nil
}
