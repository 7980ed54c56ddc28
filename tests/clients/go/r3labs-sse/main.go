// Listens with github.com/r3labs/sse.
package main

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"os"
	"time"

	"github.com/r3labs/sse/v2"
	"gopkg.in/cenkalti/backoff.v1"

	"sinapse/tests/clients/report"
)

func main() {
	report.Streams()
	if len(os.Args) > 3 {
		alone(os.Args[1], os.Args[2])
	} else {
		listen(os.Args[1], os.Args[2])
	}
	report.Closed()
}

func handle(event *sse.Event) {
	if len(event.Data) > 0 { // Comments are events to it.
		report.Event(string(event.Event), string(event.Data), string(event.ID))
	}
}

var errRefused = errors.New("the token is not valid")

func listen(url, token string) {
	client := sse.NewClient(url, sse.ClientMaxBufferSize(4<<20))
	client.Headers["Authorization"] = "Bearer " + token
	client.ResponseValidator = func(_ *sse.Client, response *http.Response) error {
		switch response.StatusCode {
		case 200:
			return nil
		case 204, 401:
			return backoff.Permanent(errRefused) // gopkg.in/cenkalti/backoff.v1
		}
		return errors.New(response.Status)
	}
	for !errors.Is(client.SubscribeRaw(handle), errRefused) {
		time.Sleep(time.Second + rand.N(4*time.Second))
	}
}

func alone(url, token string) {
	client := sse.NewClient(url)
	client.Headers["Authorization"] = "Bearer " + token
	_ = client.SubscribeRaw(handle)
}
