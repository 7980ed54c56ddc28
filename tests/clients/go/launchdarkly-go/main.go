// Listens with github.com/launchdarkly/eventsource.
package main

import (
	"net/http"
	"os"
	"time"

	"github.com/launchdarkly/eventsource"

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

func handle(event eventsource.Event) {
	report.Event(event.Event(), event.Data(), event.Id())
}

func listen(url, token string) {
	request, _ := http.NewRequest(http.MethodGet, url, nil)
	request.Header.Set("Authorization", "Bearer "+token)
	stream, err := eventsource.SubscribeWithRequestAndOptions(request,
		eventsource.StreamOptionReadTimeout(45*time.Second),
		eventsource.StreamOptionCanRetryFirstConnection(-1),
		eventsource.StreamOptionErrorHandler(func(err error) eventsource.StreamErrorHandlerResult {
			refused, ok := err.(eventsource.SubscriptionError)
			isFinal := ok && (refused.Code == 204 || refused.Code == 401)
			return eventsource.StreamErrorHandlerResult{CloseNow: isFinal}
		}))
	for err == nil {
		event, ok := <-stream.Events
		if !ok { // It was refused.
			break
		}
		handle(event)
	}
}

func alone(url, token string) {
	request, _ := http.NewRequest(http.MethodGet, url, nil)
	request.Header.Set("Authorization", "Bearer "+token)
	stream, err := eventsource.SubscribeWithRequestAndOptions(request)
	if err != nil {
		return
	}
	for {
		select {
		case <-stream.Errors: // It waits until somebody takes them.
		case event, ok := <-stream.Events:
			if !ok {
				return
			}
			handle(event)
		}
	}
}
