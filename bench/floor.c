/* The floor: what a delivery costs at least. One send() a stream and message, and nothing else.
 *
 *   floor PORT PUBLISHING_PORT CHANNELS BATCHING
 *
 * A stream asks for "/?c=1,2,3". What is to be sent to a channel comes on the publishing port,
 * framed already: 4 bytes of channel, 4 bytes of length, the bytes. Nothing is looked up, encoded,
 * queued or kept; a stream that does not read holds up everybody. With BATCHING, which is 1 or 0,
 * what one read brings for a channel goes in one send(): that is as fast as a load can be fed.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST 65536

struct channel {
	int *audience, size, room;
};

static struct channel *channels;
static int channel_count, batching;
static char kinds[MOST]; /* by descriptor: 's'tream, 'p'ublisher */
static const char head[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
			   "Content-Type: text/event-stream\r\nCache-Control: no-store\r\n\r\n"
			   "3\r\n:\n\n\r\n";

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static int listening(int port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 4096) < 0)
		fail("listen");
	return fd;
}

static void send_all(int fd, const char *bytes, size_t size)
{
	while (size) {
		ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent < 0 && errno == EAGAIN) {
			struct pollfd room = {fd, POLLOUT, 0};
			poll(&room, 1, -1);
		} else if (sent < 0) {
			return;
		} else {
			bytes += sent;
			size -= (size_t)sent;
		}
	}
}

static void join(int fd, char *request)
{
	char *list = strstr(request, "c="), *end = strchr(request + 4, ' ');
	if (list && end && list < end)
		for (list += 2; list < end; list++) {
			int number = (int)strtol(list, &list, 10);
			if (number < 0 || number >= channel_count)
				break;
			struct channel *c = &channels[number];
			if (c->size == c->room) {
				c->room = c->room ? 2 * c->room : 4;
				c->audience = realloc(c->audience, sizeof(int) * (size_t)c->room);
			}
			c->audience[c->size++] = fd;
		}
	send_all(fd, head, sizeof head - 1);
}

static void deliver(int fd)
{
	static char buffer[1 << 20], batch[1 << 20];
	static size_t filled;
	ssize_t got = recv(fd, buffer + filled, sizeof buffer - filled, 0);
	if (got <= 0) {
		if (got == 0)
			close(fd);
		return;
	}
	filled += (size_t)got;
	char *at = buffer, *end = buffer + filled;
	while (end - at >= 8) {
		uint32_t number, size;
		memcpy(&number, at, 4);
		memcpy(&size, at + 4, 4);
		if ((size_t)(end - at) < 8 + (size_t)size)
			break;
		struct channel *c = &channels[number];
		const char *bytes = at + 8;
		size_t total = size;
		at += 8 + size;
		if (batching) {
			memcpy(batch, bytes, total);
			bytes = batch;
			while (end - at >= 8 && !memcmp(at, &number, 4)) {
				memcpy(&size, at + 4, 4);
				if ((size_t)(end - at) < 8 + (size_t)size)
					break;
				memcpy(batch + total, at + 8, size);
				total += size;
				at += 8 + size;
			}
		}
		for (int i = 0; i < c->size; i++)
			send_all(c->audience[i], bytes, total);
	}
	filled = (size_t)(end - at);
	memmove(buffer, at, filled);
}

int main(int count, char **words)
{
	if (count != 5)
		return 2;
	batching = atoi(words[4]);
	channel_count = atoi(words[3]);
	channels = calloc((size_t)channel_count, sizeof *channels);
	int epoll = epoll_create1(0), ports[2] = {listening(atoi(words[1])), listening(atoi(words[2]))};
	for (int i = 0; i < 2; i++) {
		struct epoll_event event = {.events = EPOLLIN, .data.fd = ports[i]};
		epoll_ctl(epoll, EPOLL_CTL_ADD, ports[i], &event);
	}
	for (;;) {
		static struct epoll_event events[256];
		int ready = epoll_wait(epoll, events, 256, -1);
		for (int i = 0; i < ready; i++) {
			int fd = events[i].data.fd;
			if (fd == ports[0] || fd == ports[1]) {
				int one = 1, peer = accept4(fd, NULL, NULL, SOCK_NONBLOCK);
				if (peer < 0)
					continue;
				setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
				kinds[peer] = fd == ports[0] ? 's' : 'p';
				struct epoll_event event = {.events = EPOLLIN, .data.fd = peer};
				epoll_ctl(epoll, EPOLL_CTL_ADD, peer, &event);
			} else if (kinds[fd] == 'p') {
				deliver(fd);
			} else {
				char request[4096];
				ssize_t got = recv(fd, request, sizeof request - 1, 0);
				if (got > 0) {
					request[got] = 0;
					join(fd, request);
				} else if (got == 0 || errno != EAGAIN) {
					epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
				}
			}
		}
	}
}
