/* The load: opens event streams, publishes, and checks and times every delivery.
 *
 *   load HOST PORT STREAMS [options]
 *
 * STREAMS is a file with a line a stream: target, one more header field or nothing, and the channels
 * that the stream is to hear, as numbers with commas between; tabs between the three.
 *
 * Commands come on standard input, a line each, and each is answered by one line of JSON:
 *
 *   open                   open all streams, WINDOW of them on their way at any time
 *   publish COUNT RATE     publish COUNT messages, RATE a second or, if that is 0, flat out; the
 *                          answer comes when all have arrived, or after PATIENCE without progress.
 *                          The next line on standard input ends the publishing before that.
 *   idle SECONDS           read for a while
 *
 * A publish request is a template, one a channel: bytes as they go to the publishing port, with a
 * place for a marker in them. A marker is a sequence number and a time; it has one length always,
 * so that the lengths in the template stay right whatever the protocol. Markers are searched for
 * in the bytes of the streams, whatever else is there: headers, chunk sizes, ids, keep-alives, and
 * the frame headers of WebSocket, which needs no more of a client that sends nothing.
 *
 * Streams are read by one thread with epoll, raw, without any copy that is not needed; messages
 * are published by another one. A stream is whole if it got as many markers as were published
 * to its channels, with the same sum of sequence numbers, and if these only went up.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#endif

#define BLANK "~@0000000000.0000000000000000@~"
#define MARKER ((int)sizeof BLANK - 1)
#define READ_SIZE (256 * 1024)
#define SOURCES 8 /* addresses 127.0.0.2 and up that streams come from: enough ports for all */

enum state { WAITING, CONNECTING, ASKED, ANSWERED, OPEN, GONE };

struct stream {
	int fd;
	enum state state;
	int carried;
	char carry[64]; /* the end of what was read: it may be the beginning of a marker */
	char *target, *header;
	int *channels, channel_count;
	int64_t asked; /* when the connect began, in microseconds */
	int64_t last, received, sum;
#ifdef WITH_TLS
	SSL *ssl;
#endif
};

struct template {
	char *bytes;
	size_t size;
	char *marker;
	int64_t published, sum;
};

static struct stream *streams;
static int stream_count;
static struct template *templates;
static int template_count;

static struct sockaddr_in server, publishing;
static const char *host, *reply_mark = "\r\n";
static int window = 500, each, reply_window, use_tls, use_websocket, resume;
static double patience = 5, most = 60;

static int epoll, in_flight, next_to_open, opened, refused, gone;
static int64_t received, disorder, bytes_read, reads, last_progress, last_delivery;
static uint32_t *latencies;
static size_t latency_count, latency_room;
static char status_line[64];

static pthread_t publisher;
static volatile int publisher_running, publisher_stop;
static int64_t publish_count, published, publish_errors;
static double publish_rate;
static int64_t publish_begun, publish_ended;
static int64_t sequence;

static int resumed;
#ifdef WITH_TLS
static SSL_CTX *tls;
static SSL_SESSION *session; /* of the first stream that is open: the others come back with it */
#endif

static int64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void note_latency(int64_t microseconds)
{
	if (latency_count == latency_room) {
		latency_room = latency_room ? 2 * latency_room : 1 << 20;
		latencies = realloc(latencies, latency_room * sizeof *latencies);
		if (!latencies)
			fail("latencies");
	}
	latencies[latency_count++] = microseconds < 0 ? 0 : (uint32_t)microseconds;
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

static void print_latencies(void)
{
	static const struct { const char *name; double part; } wanted[] = {
		{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}, {"max", 1}
	};
	qsort(latencies, latency_count, sizeof *latencies, compare);
	printf("\"latency_us\": {");
	for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
		size_t at = (size_t)(wanted[i].part * (double)latency_count);
		if (at >= latency_count)
			at = latency_count - 1;
		printf("%s\"%s\": %u", i ? ", " : "", wanted[i].name,
		       latency_count ? latencies[at] : 0);
	}
	printf("}");
	latency_count = 0;
}

static double cpu_seconds(void)
{
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* Streams */

static void lose(struct stream *s)
{
	if (s->state > WAITING && s->state < OPEN) {
		in_flight--;
		refused++;
	} else if (s->state == OPEN) {
		gone++;
	}
	s->state = GONE;
#ifdef WITH_TLS
	if (s->ssl)
		SSL_free(s->ssl);
	s->ssl = NULL;
#endif
	close(s->fd);
	s->fd = -1;
}

static void become_open(struct stream *s)
{
	s->state = OPEN;
	in_flight--;
	opened++;
	note_latency(now() - s->asked);
#ifdef WITH_TLS
	if (resume && s->ssl) {
		resumed += SSL_session_reused(s->ssl);
		if (!session)
			session = SSL_get1_session(s->ssl);
	}
#endif
}

static void ask(struct stream *s)
{
	/* The key of a handshake is to be random so that caches do not answer it: there are none. */
	static const char event_stream[] = "Accept: text/event-stream\r\nCache-Control: no-cache\r\n",
			  upgrade[] = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
				      "Sec-WebSocket-Version: 13\r\n"
				      "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n";
	char request[8192];
	int size = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s:%d\r\n%s%s%s\r\n",
			    s->target, host, ntohs(server.sin_port),
			    use_websocket ? upgrade : event_stream,
			    s->header, *s->header ? "\r\n" : "");
	ssize_t written;
	if (size >= (int)sizeof request) {
		fprintf(stderr, "the target of a stream is too long\n");
		exit(1);
	}
#ifdef WITH_TLS
	if (s->ssl)
		written = SSL_write(s->ssl, request, size);
	else
#endif
		written = send(s->fd, request, size, MSG_NOSIGNAL);
	if (written != size)
		lose(s);
	else
		s->state = ASKED;
}

static void begin(struct stream *s, int number)
{
	struct sockaddr_in source = {.sin_family = AF_INET};
	struct linger reset = {1, 0};
	int one = 1;
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->fd < 0)
		fail("socket");
	/* Close by a reset: no port of ours is to wait for two minutes. */
	setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
	setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	setsockopt(s->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
	source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + number % SOURCES);
	if (bind(s->fd, (struct sockaddr *)&source, sizeof source) < 0)
		fail("bind");
	s->asked = now();
	s->state = CONNECTING;
	in_flight++;
	struct epoll_event event = {.events = EPOLLOUT, .data.u32 = (uint32_t)number};
	if (connect(s->fd, (struct sockaddr *)&server, sizeof server) < 0 && errno != EINPROGRESS)
		fail("connect");
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, s->fd, &event) < 0)
		fail("epoll_ctl");
}

static void connected(struct stream *s, int number)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)number};
	int error = 0;
	socklen_t size = sizeof error;
	getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &size);
	if (error) {
		lose(s);
		return;
	}
#ifdef WITH_TLS
	if (use_tls) {
		if (!s->ssl) {
			s->ssl = SSL_new(tls);
			SSL_set_fd(s->ssl, s->fd);
			if (session)
				SSL_set_session(s->ssl, session);
		}
		int done = SSL_connect(s->ssl);
		if (done != 1) {
			int why = SSL_get_error(s->ssl, done);
			if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) {
				lose(s);
				return;
			}
			event.events = why == SSL_ERROR_WANT_READ ? EPOLLIN : EPOLLOUT;
			epoll_ctl(epoll, EPOLL_CTL_MOD, s->fd, &event);
			return;
		}
	}
#endif
	epoll_ctl(epoll, EPOLL_CTL_MOD, s->fd, &event);
	ask(s);
}

static int64_t digits(const char *text, int count)
{
	int64_t value = 0;
	while (count--)
		value = 10 * value + *text++ - '0';
	return value;
}

/* Takes what a stream has brought; `data` begins with what was carried over. */
static void take(struct stream *s, const char *data, int size)
{
	const char *end = data + size, *from = data, *mark;
	if (s->state == ASKED) {
		if (size < 12 || memcmp(data + 9, use_websocket ? "101" : "200", 3)) {
			snprintf(status_line, sizeof status_line, "%.*s", size < 40 ? size : 40, data);
			lose(s);
			return;
		}
		s->state = ANSWERED;
		if (!each)
			become_open(s);
	}
	int64_t at = now();
	while ((mark = memmem(from, end - from, "~@", 2))) {
		if (end - mark < MARKER)
			break;
		from = mark + 2;
		if (mark[MARKER - 2] != '@' || mark[MARKER - 1] != '~')
			continue;
		int64_t number = digits(mark + 2, 10);
		if (number <= s->last)
			disorder++;
		s->last = number;
		s->received++;
		s->sum += number;
		received++;
		if (!each)
			note_latency(at - digits(mark + 13, 16));
		last_delivery = at;
		from = mark + MARKER;
	}
	last_progress = at;
	int rest = mark ? (int)(end - mark) : (end > from && end[-1] == '~');
	s->carried = rest;
	memcpy(s->carry, end - rest, rest);
	if (s->state == ANSWERED && s->received >= each)
		become_open(s);
}

static void receive(struct stream *s)
{
	static char buffer[READ_SIZE + 64];
	for (;;) {
		ssize_t size;
		memcpy(buffer, s->carry, s->carried);
#ifdef WITH_TLS
		if (s->ssl) {
			int got = SSL_read(s->ssl, buffer + s->carried, READ_SIZE);
			if (got <= 0) {
				int why = SSL_get_error(s->ssl, got);
				if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
					lose(s);
				return;
			}
			size = got;
		} else
#endif
			size = recv(s->fd, buffer + s->carried, READ_SIZE, 0);
		if (size <= 0) {
			if (size == 0 || (errno != EAGAIN && errno != EINTR))
				lose(s);
			return;
		}
		reads++;
		bytes_read += size;
		take(s, buffer, s->carried + (int)size);
#ifdef WITH_TLS
		if (s->state != GONE && s->ssl && SSL_has_pending(s->ssl))
			continue;
#endif
		return;
	}
}

static void turn(int milliseconds)
{
	static struct epoll_event events[1024];
	int count = epoll_wait(epoll, events, 1024, milliseconds);
	for (int i = 0; i < count; i++) {
		struct stream *s = &streams[events[i].data.u32];
		if (s->state == CONNECTING)
			connected(s, (int)events[i].data.u32);
		else if (s->state != GONE)
			receive(s);
	}
}

/* Publishing */

static int connect_publisher(void)
{
	struct timeval patient = {(time_t)most, 0}; /* a server may stop answering */
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&publishing, sizeof publishing) < 0)
		fail("publisher");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patient, sizeof patient);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patient, sizeof patient);
	return fd;
}

/* Returns how many replies have come, and -1 if there will be none any more. */
static int64_t replies_in(int fd, int flags)
{
	static char buffer[65536 + 16];
	static int kept;
	int length = (int)strlen(reply_mark);
	if (!length)
		return 0;
	ssize_t size = recv(fd, buffer + kept, sizeof buffer - 16, flags);
	if (size <= 0)
		return size == 0 || flags != MSG_DONTWAIT ? -1 : 0;
	char *from = buffer, *end = buffer + kept + size, *mark;
	int64_t count = 0;
	while ((mark = memmem(from, end - from, reply_mark, length))) {
		count++;
		from = mark + length;
	}
	if (*buffer == '-' || memmem(buffer, end - buffer, "\n-", 2) ||
	    memmem(buffer, end - buffer, "HTTP/1.1 4", 10) ||
	    memmem(buffer, end - buffer, "HTTP/1.1 5", 10)) {
		if (!publish_errors++)
			fprintf(stderr, "publisher: %.*s\n", (int)(end - buffer > 200 ? 200 : end - buffer),
				buffer);
	}
	kept = (int)(end - from) < length - 1 ? (int)(end - from) : length - 1;
	memmove(buffer, end - kept, kept);
	return count;
}

static void *publish(void *unused)
{
	(void)unused;
	int fd = connect_publisher();
	struct timespec start;
	clock_gettime(CLOCK_MONOTONIC, &start);
	int64_t replies = 0, sent = 0, more;
	char digits_of[64];
	publish_begun = now();
	for (int64_t i = 0; i < publish_count && !publisher_stop; i++) {
		if (publish_rate > 0) {
			int64_t ns = start.tv_nsec + (int64_t)((double)i * 1e9 / publish_rate);
			struct timespec due = {start.tv_sec + ns / 1000000000, ns % 1000000000};
			clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
		}
		while (reply_window && sent - replies >= reply_window)
			if ((more = replies_in(fd, 0)) < 0)
				goto over;
			else
				replies += more;
		struct template *t = &templates[i % template_count];
		sequence++;
		if (t->marker) {
			snprintf(digits_of, sizeof digits_of, "~@%010lld.%016lld@~", (long long)sequence,
				 (long long)now());
			memcpy(t->marker, digits_of, MARKER);
		}
		for (size_t at = 0; at < t->size;) {
			ssize_t n = send(fd, t->bytes + at, t->size - at, MSG_NOSIGNAL);
			if (n <= 0)
				goto over;
			at += (size_t)n;
		}
		sent++;
		t->published++;
		t->sum += sequence;
		published++;
		if ((more = replies_in(fd, MSG_DONTWAIT)) > 0)
			replies += more;
	}
	while (replies < sent && *reply_mark && (more = replies_in(fd, 0)) >= 0)
		replies += more;
over:
	publish_ended = now();
	close(fd);
	publisher_running = 0;
	return NULL;
}

static int64_t expected_now(void)
{
	int64_t expected = 0;
	for (int i = 0; i < stream_count; i++)
		for (int c = 0; c < streams[i].channel_count; c++)
			expected += templates[streams[i].channels[c]].published;
	return expected;
}

static int incomplete(void)
{
	int count = 0;
	for (int i = 0; i < stream_count; i++) {
		int64_t wanted = 0, sum = 0;
		for (int c = 0; c < streams[i].channel_count; c++) {
			wanted += templates[streams[i].channels[c]].published;
			sum += templates[streams[i].channels[c]].sum;
		}
		count += streams[i].received != wanted || streams[i].sum != sum;
	}
	return count;
}

/* Commands */

static void do_open(void)
{
	int64_t begun = now();
	double cpu = cpu_seconds();
	last_progress = begun;
	while (opened + refused < stream_count) {
		while (in_flight < window && next_to_open < stream_count) {
			begin(&streams[next_to_open], next_to_open);
			next_to_open++;
		}
		turn(100);
		if ((double)(now() - last_progress) > 4 * patience * 1e6)
			break;
	}
	printf("{\"opened\": %d, \"refused\": %d, \"stuck\": %d, \"seconds\": %.6f, \"load_cpu\": %.6f, "
	       "\"bytes\": %lld, \"received\": %lld, \"disorder\": %lld, \"resumed\": %d, \"refusal\": \"",
	       opened, refused, in_flight, (double)(now() - begun) / 1e6, cpu_seconds() - cpu,
	       (long long)bytes_read, (long long)received, (long long)disorder, resumed);
	for (char *c = status_line; *c; c++)
		if (*c >= ' ' && *c != '"' && *c != '\\')
			putchar(*c);
	printf("\", ");
	print_latencies();
	printf("}\n");
}

static void do_publish(int64_t count, double rate)
{
	double cpu = cpu_seconds();
	int64_t bytes = bytes_read, reads_before = reads, before = received, owed = expected_now();
	int was_gone = gone;
	publish_count = count;
	publish_rate = rate;
	published = 0;
	int64_t begun = now();
	publish_begun = publish_ended = last_progress = last_delivery = begun;
	publisher_running = 1;
	publisher_stop = 0;
	if (pthread_create(&publisher, NULL, publish, NULL))
		fail("pthread_create");
	while (publisher_running) {
		struct pollfd input = {0, POLLIN, 0};
		turn(10);
		if (poll(&input, 1, 0) > 0)
			publisher_stop = 1;
	}
	pthread_join(publisher, NULL);
	int64_t expected = expected_now();
	last_progress = now();
	while (received < expected && (double)(now() - last_progress) < patience * 1e6 &&
	       (double)(now() - begun) < most * 1e6)
		turn(100);
	/* What is delivered twice is not to come unnoticed. */
	for (int64_t until = now() + 50000; now() < until;)
		turn(10);
	printf("{\"published\": %lld, \"publish_errors\": %lld, \"publish_seconds\": %.6f, "
	       "\"expected\": %lld, \"received\": %lld, \"disorder\": %lld, \"incomplete\": %d, "
	       "\"gone\": %d, \"seconds\": %.6f, \"bytes\": %lld, \"reads\": %lld, \"load_cpu\": %.6f, ",
	       (long long)published, (long long)publish_errors,
	       (double)(publish_ended - publish_begun) / 1e6, (long long)(expected - owed),
	       (long long)(received - before), (long long)disorder, incomplete(), gone - was_gone,
	       (double)(last_delivery - publish_begun) / 1e6, (long long)(bytes_read - bytes),
	       (long long)(reads - reads_before), cpu_seconds() - cpu);
	print_latencies();
	printf("}\n");
}

static void do_idle(double seconds)
{
	int64_t bytes = bytes_read, until = now() + (int64_t)(seconds * 1e6);
	int was_gone = gone;
	double cpu = cpu_seconds();
	while (now() < until)
		turn(100);
	printf("{\"seconds\": %.3f, \"bytes\": %lld, \"received\": %lld, \"disorder\": %lld, "
	       "\"gone\": %d, \"load_cpu\": %.6f}\n",
	       seconds, (long long)(bytes_read - bytes), (long long)received, (long long)disorder,
	       gone - was_gone, cpu_seconds() - cpu);
}

/* Reading the files */

static void read_streams(const char *path)
{
	FILE *file = fopen(path, "r");
	char *line = NULL;
	size_t room = 0;
	if (!file)
		fail(path);
	while (getline(&line, &room, file) > 0) {
		line[strcspn(line, "\n")] = 0;
		streams = realloc(streams, sizeof *streams * (size_t)(stream_count + 1));
		struct stream *s = &streams[stream_count++];
		memset(s, 0, sizeof *s);
		s->fd = -1;
		char *rest = line, *target = strsep(&rest, "\t"), *header = strsep(&rest, "\t");
		s->target = strdup(target);
		s->header = strdup(header ? header : "");
		for (char *word; rest && (word = strsep(&rest, ",")) && *word;) {
			s->channels = realloc(s->channels, sizeof *s->channels * (size_t)(s->channel_count + 1));
			s->channels[s->channel_count++] = atoi(word);
		}
	}
	free(line);
	fclose(file);
}

static void read_templates(const char *path)
{
	FILE *file = fopen(path, "rb");
	uint32_t size;
	if (!file)
		fail(path);
	while (fread(&size, sizeof size, 1, file) == 1) {
		templates = realloc(templates, sizeof *templates * (size_t)(template_count + 1));
		struct template *t = &templates[template_count++];
		memset(t, 0, sizeof *t);
		t->size = size;
		t->bytes = malloc(size);
		if (!t->bytes || fread(t->bytes, 1, size, file) != size)
			fail(path);
		t->marker = memmem(t->bytes, size, BLANK, MARKER);
	}
	fclose(file);
}

int main(int count, char **words)
{
	if (count < 4) {
		fprintf(stderr, "usage: load HOST PORT STREAMS [options]\n");
		return 2;
	}
	host = words[1];
	server.sin_family = publishing.sin_family = AF_INET;
	inet_pton(AF_INET, host, &server.sin_addr);
	publishing.sin_addr = server.sin_addr;
	server.sin_port = htons((uint16_t)atoi(words[2]));
	read_streams(words[3]);
	for (int i = 4; i + 1 < count; i += 2) {
		const char *name = words[i], *value = words[i + 1];
		if (!strcmp(name, "--publish"))
			publishing.sin_port = htons((uint16_t)atoi(value));
		else if (!strcmp(name, "--templates"))
			read_templates(value);
		else if (!strcmp(name, "--window"))
			window = atoi(value);
		else if (!strcmp(name, "--each"))
			each = atoi(value);
		else if (!strcmp(name, "--reply"))
			reply_mark = value;
		else if (!strcmp(name, "--reply-window"))
			reply_window = atoi(value);
		else if (!strcmp(name, "--patience"))
			patience = atof(value);
		else if (!strcmp(name, "--most"))
			most = atof(value);
		else if (!strcmp(name, "--tls"))
			use_tls = atoi(value);
		else if (!strcmp(name, "--resume"))
			resume = atoi(value);
		else if (!strcmp(name, "--websocket"))
			use_websocket = atoi(value);
	}
	for (int i = 0; i < stream_count; i++)
		for (int c = 0; c < streams[i].channel_count; c++)
			if (streams[i].channels[c] >= template_count && template_count) {
				fprintf(stderr, "stream %d: no such channel\n", i);
				return 2;
			}
	if (use_tls) {
#ifdef WITH_TLS
		tls = SSL_CTX_new(TLS_client_method());
		SSL_CTX_set_mode(tls, SSL_MODE_RELEASE_BUFFERS);
#else
		fprintf(stderr, "built without TLS\n");
		return 2;
#endif
	}
	epoll = epoll_create1(EPOLL_CLOEXEC);
	/* The commands are waited for beside the streams, which must be read all the time. */
	int flags = fcntl(0, F_GETFL);
	fcntl(0, F_SETFL, flags | O_NONBLOCK);
	setvbuf(stdout, NULL, _IOLBF, 0);
	char line[256];
	size_t filled = 0;
	for (;;) {
		char letter;
		ssize_t got = read(0, &letter, 1);
		if (got == 0)
			return 0;
		if (got < 0) {
			turn(20);
			continue;
		}
		if (letter != '\n') {
			if (filled < sizeof line - 1)
				line[filled++] = letter;
			continue;
		}
		line[filled] = 0;
		filled = 0;
		long long messages;
		double number;
		if (!strcmp(line, "open"))
			do_open();
		else if (sscanf(line, "publish %lld %lf", &messages, &number) == 2)
			do_publish(messages, number);
		else if (sscanf(line, "idle %lf", &number) == 1)
			do_idle(number);
	}
}
