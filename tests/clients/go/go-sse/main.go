// Listens with github.com/tmaxmax/go-sse.
package main

import (
	"net/http"
	"os"

	"github.com/tmaxmax/go-sse"

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

func handle(event sse.Event) {
	report.Event(event.Type, event.Data, event.LastEventID)
}

func listen(url, token string) {
	request, _ := http.NewRequest(http.MethodGet, url, nil)
	request.Header.Set("Authorization", "Bearer "+token)
	connection := sse.NewConnection(request)
	connection.Buffer(make([]byte, 0, 4096), 4<<20)
	connection.SubscribeToAll(handle)
	_ = connection.Connect() // Until it is refused.
}

func alone(url, token string) {
	request, _ := http.NewRequest(http.MethodGet, url, nil)
	request.Header.Set("Authorization", "Bearer "+token)
	connection := sse.NewConnection(request)
	connection.SubscribeToAll(handle)
	_ = connection.Connect()
}
