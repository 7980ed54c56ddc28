import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;

/** Writes what a client hears, as the README of these clients says. */
final class Report {
    private static final Gson GSON = new GsonBuilder().serializeNulls().create();
    private static final PrintStream OUTPUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    private Report() {}

    /** An event. */
    static void event(String event, String data, String id) {
        write(Map.of("event", event == null ? "message" : event, "data", data, "id", id == null ? "" : id));
    }

    /** A stream is open. */
    static void open() {
        write(Map.of("state", "open"));
    }

    /** The client does not come back; the program ends. */
    static void closed(Integer status) {
        Map<String, Object> line = new HashMap<>();
        line.put("state", "closed");
        line.put("status", status);
        write(line);
        System.exit(0);
    }

    private static void write(Map<String, ?> line) {
        OUTPUT.println(GSON.toJson(line));
    }
}
