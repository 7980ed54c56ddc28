import java.time.Duration;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import okhttp3.OkHttpClient;
import okhttp3.Request;
import okhttp3.Response;
import okhttp3.sse.EventSource;
import okhttp3.sse.EventSourceListener;
import okhttp3.sse.EventSources;

/** Listens with okhttp-sse. */
public final class OkHttpSse {
    private OkHttpSse() {}

    public static void main(String[] arguments) {
        String url = arguments[0];
        String token = arguments[1];
        OkHttpClient client = new OkHttpClient.Builder().readTimeout(Duration.ofSeconds(45)).build();
        if (arguments.length > 2) {
            Request request = new Request.Builder().url(url).header("Authorization", "Bearer " + token).build();
            EventSources.createFactory(client).newEventSource(request, new Alone());
        } else {
            new Stream(client, url, token).connect();
        }
    }

    /** A stream that comes back. */
    private static final class Stream extends EventSourceListener {
        private final ScheduledExecutorService timer = Executors.newSingleThreadScheduledExecutor();
        private final OkHttpClient client;
        private final String url;
        private final String token;
        private String last;

        Stream(OkHttpClient client, String url, String token) {
            this.client = client;
            this.url = url;
            this.token = token;
        }

        void connect() {
            Request.Builder request = new Request.Builder().url(url).header("Authorization", "Bearer " + token);
            if (last != null) request.header("Last-Event-ID", last);
            EventSources.createFactory(client).newEventSource(request.build(), this);
        }

        void comeBack() {
            timer.schedule(this::connect, ThreadLocalRandom.current().nextInt(1000, 5000), TimeUnit.MILLISECONDS);
        }

        @Override public void onEvent(EventSource source, String id, String type, String data) {
            if (id != null) last = id;
            handle(id, type, data);
        }

        @Override public void onClosed(EventSource source) {
            comeBack();
        }

        @Override public void onFailure(EventSource source, Throwable error, Response response) {
            if (response != null && response.code() == 401) refused();
            else comeBack();
        }

        @Override public void onOpen(EventSource source, Response response) {
            Report.open();
        }

        private void handle(String id, String type, String data) {
            Report.event(type, data, id);
        }

        private void refused() {
            Report.closed(401);
        }
    }

    /** A stream, and no more. */
    private static final class Alone extends EventSourceListener {
        @Override public void onOpen(EventSource source, Response response) {
            Report.open();
        }

        @Override public void onEvent(EventSource source, String id, String type, String data) {
            Report.event(type, data, id);
        }

        @Override public void onClosed(EventSource source) {
            Report.closed(null);
        }

        @Override public void onFailure(EventSource source, Throwable error, Response response) {
            Report.closed(response == null || response.isSuccessful() ? null : response.code());
        }
    }
}
