/*
 * A load client for unary gRPC calls over HTTP/2 and mutual TLS: one connection for each client, one call under way on
 * each, a body of its own for every call. libnghttp2 and OpenSSL do the work; a call costs it a few microseconds, so
 * that what is measured is the server.
 *
 *   load HOST PORT CA CERT KEY PATH BODIES CLIENTS WARM_SECONDS SECONDS
 *
 * BODIES: messages, each with its length before it (4 octets, big-endian). Prints one JSON object; a call that ends
 * without grpc-status 0 counts as an error.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <nghttp2/nghttp2.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 1 << 16, EVENTS = 256 };

struct client {
    int fd;
    SSL *ssl;
    nghttp2_session *session;
    uint8_t head[5];
    const uint8_t *body;
    size_t length;
    size_t sent;
    double begun;
    bool good;
    bool connected;
};

static const uint8_t *bodies_next;
static const uint8_t *bodies_end;
static const char *path;
static double *latencies;
static size_t count, room, errors, octets;
static double measure_from, stop_at;
static bool out_of_bodies;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, errno != 0 ? strerror(errno) : "failed");
    ERR_print_errors_fp(stderr);
    exit(1);
}

static ssize_t read_body(nghttp2_session *session, int32_t stream, uint8_t *out, size_t length, uint32_t *flags,
                         nghttp2_data_source *source, void *user)
{
    (void)session;
    (void)stream;
    (void)user;
    struct client *client = source->ptr;
    size_t written = 0;
    while (written < length && client->sent < sizeof client->head + client->length) {
        const uint8_t *from = client->sent < sizeof client->head ? client->head + client->sent
                                                                 : client->body + (client->sent - sizeof client->head);
        size_t left = client->sent < sizeof client->head ? sizeof client->head - client->sent
                                                         : sizeof client->head + client->length - client->sent;
        size_t part = left < length - written ? left : length - written;
        memcpy(out + written, from, part);
        written += part;
        client->sent += part;
    }
    if (client->sent == sizeof client->head + client->length) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)written;
}

#define HEADER(name, value)                                                                                            \
    {                                                                                                                  \
        (uint8_t *)(name), (uint8_t *)(value), sizeof(name) - 1, strlen(value), NGHTTP2_NV_FLAG_NONE                   \
    }

static void call(struct client *client)
{
    if (bodies_next >= bodies_end) {
        out_of_bodies = true;
        return;
    }
    uint32_t length;
    memcpy(&length, bodies_next, sizeof length);
    length = ntohl(length);
    client->body = bodies_next + sizeof length;
    bodies_next += sizeof length + length;
    client->head[0] = 0;
    uint32_t big_endian = htonl(length);
    memcpy(client->head + 1, &big_endian, sizeof big_endian);
    client->length = length;
    client->sent = 0;
    client->good = false;
    client->begun = now();
    nghttp2_nv headers[] = {
        HEADER(":method", "POST"),         HEADER(":scheme", "https"), HEADER(":path", path),
        HEADER(":authority", "localhost"), HEADER("te", "trailers"),   HEADER("content-type", "application/grpc"),
        HEADER("grpc-timeout", "30S"),
    };
    nghttp2_data_provider provider = {.source.ptr = client, .read_callback = read_body};
    if (nghttp2_submit_request(client->session, NULL, headers, sizeof headers / sizeof *headers, &provider, client) <
        0) {
        die("submit");
    }
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_length,
                     const uint8_t *value, size_t value_length, uint8_t flags, void *user)
{
    (void)session;
    (void)frame;
    (void)flags;
    struct client *client = user;
    if (name_length == 11 && memcmp(name, "grpc-status", 11) == 0) {
        client->good = value_length == 1 && value[0] == '0';
    }
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *data, size_t length,
                   void *user)
{
    (void)session;
    (void)flags;
    (void)stream;
    (void)data;
    (void)user;
    octets += length;
    return 0;
}

static int on_close(nghttp2_session *session, int32_t stream, uint32_t code, void *user)
{
    (void)session;
    (void)stream;
    (void)code;
    struct client *client = user;
    double end = now();
    if (end >= measure_from && end <= stop_at) {
        if (!client->good) {
            errors++;
        }
        if (count == room) {
            room = room == 0 ? 1 << 16 : room * 2;
            latencies = realloc(latencies, room * sizeof *latencies);
            if (latencies == NULL) {
                die("memory");
            }
        }
        latencies[count++] = end - client->begun;
    }
    if (end < stop_at) {
        call(client);
    }
    return 0;
}

static void flush(struct client *client)
{
    for (;;) {
        const uint8_t *data;
        ssize_t length = nghttp2_session_mem_send(client->session, &data);
        if (length < 0) {
            die("send");
        }
        if (length == 0) {
            return;
        }
        /* Small writes on loopback: the socket's buffer takes them whole. */
        for (ssize_t done = 0; done < length;) {
            int part = SSL_write(client->ssl, data + done, (int)(length - done));
            if (part > 0) {
                done += part;
            } else if (SSL_get_error(client->ssl, part) != SSL_ERROR_WANT_WRITE) {
                die("write");
            }
        }
    }
}

static void receive(struct client *client)
{
    static uint8_t buffer[BUFFER];
    for (;;) {
        int length = SSL_read(client->ssl, buffer, sizeof buffer);
        if (length <= 0) {
            int why = SSL_get_error(client->ssl, length);
            if (why == SSL_ERROR_WANT_READ) {
                break;
            }
            die("the server closed the connection");
        }
        if (nghttp2_session_mem_recv(client->session, buffer, (size_t)length) < 0) {
            die("receive");
        }
    }
    flush(client);
}

static void connect_client(struct client *client, SSL_CTX *context, const char *host, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, host, &address.sin_addr);
    client->fd = socket(AF_INET, SOCK_STREAM, 0);
    int one = 1;
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(client->fd, (struct sockaddr *)&address, sizeof address) != 0) {
        die("connect");
    }
    client->ssl = SSL_new(context);
    SSL_set_fd(client->ssl, client->fd);
    SSL_set_tlsext_host_name(client->ssl, "localhost");
    SSL_set1_host(client->ssl, "localhost");
    if (SSL_connect(client->ssl) != 1) {
        die("TLS");
    }
    fcntl(client->fd, F_SETFL, O_NONBLOCK);
    nghttp2_session_callbacks *callbacks;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    nghttp2_session_client_new(&client->session, callbacks, client);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_settings_entry window = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 22};
    nghttp2_submit_settings(client->session, NGHTTP2_FLAG_NONE, &window, 1);
    nghttp2_session_set_local_window_size(client->session, NGHTTP2_FLAG_NONE, 0, 1 << 24);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(double q)
{
    return count == 0 ? 0 : latencies[(size_t)((double)(count - 1) * q)] * 1e6;
}

static double cpu(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

int main(int argc, char **argv)
{
    if (argc != 11) {
        fprintf(stderr, "usage: load HOST PORT CA CERT KEY PATH BODIES CLIENTS WARM_SECONDS SECONDS\n");
        return 2;
    }
    path = argv[6];
    int file = open(argv[7], O_RDONLY);
    struct stat status;
    if (file < 0 || fstat(file, &status) != 0) {
        die(argv[7]);
    }
    bodies_next = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file, 0);
    if (bodies_next == MAP_FAILED) {
        die("mmap");
    }
    bodies_end = bodies_next + status.st_size;
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_alpn_protos(context, (const uint8_t *)"\x02h2", 3);
    if (SSL_CTX_load_verify_locations(context, argv[3], NULL) != 1 ||
        SSL_CTX_use_certificate_chain_file(context, argv[4]) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, argv[5], SSL_FILETYPE_PEM) != 1) {
        die("certificates");
    }
    int clients = atoi(argv[8]);
    struct client *all = calloc((size_t)clients, sizeof *all);
    int poll = epoll_create1(0);
    for (int i = 0; i < clients; i++) {
        connect_client(&all[i], context, argv[1], atoi(argv[2]));
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
        epoll_ctl(poll, EPOLL_CTL_ADD, all[i].fd, &event);
    }
    double start = now();
    measure_from = start + atof(argv[9]);
    stop_at = measure_from + atof(argv[10]);
    for (int i = 0; i < clients; i++) {
        call(&all[i]);
        flush(&all[i]);
    }
    double cpu_before = -1;
    while (now() < stop_at && !out_of_bodies) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(poll, events, EVENTS, 100);
        if (cpu_before < 0 && now() >= measure_from) {
            cpu_before = cpu();
        }
        for (int i = 0; i < ready; i++) {
            receive(events[i].data.ptr);
        }
    }
    double seconds = now() - measure_from;
    qsort(latencies, count, sizeof *latencies, ascending);
    printf("{\"calls\": %zu, \"seconds\": %.4f, \"errors\": %zu, \"p50_us\": %.1f, \"p99_us\": %.1f, "
           "\"client_cpu_us\": %.2f, \"octets\": %zu, \"out_of_bodies\": %s}\n",
           count, seconds, errors, quantile(0.5), quantile(0.99),
           count == 0 ? 0 : (cpu() - cpu_before) * 1e6 / (double)count, octets, out_of_bodies ? "true" : "false");
    return 0;
}
