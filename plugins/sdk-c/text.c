// Texts: formats, log lines, and the end with a word.
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

typedef struct {
    char *at;
    size_t length, room;
} buffer;

static void put(buffer *out, const char *text, size_t length) {
    if (length >= out->room - out->length) {
        out->room = 2 * (out->length + length) + 64;
        out->at = realloc(out->at, out->room);
    }
    memcpy(out->at + out->length, text, length);
    out->length += length;
    out->at[out->length] = 0;
}

static void put_number(buffer *out, uint64_t value, bool negative) {
    char digits[21];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    if (negative) digits[--at] = '-';
    put(out, digits + at, sizeof digits - at);
}

static void put_signed(buffer *out, int64_t value) {
    put_number(out, value < 0 ? 0 - (uint64_t)value : (uint64_t)value, value < 0);
}

char *pw_text_of(const char *format, va_list values) {
    buffer out = {.at = malloc(128), .room = 128};
    out.at[0] = 0;
    while (*format) {
        const char *rest = format;
        while (*rest && *rest != '%') rest++;
        put(&out, format, (size_t)(rest - format));
        format = rest;
        if (!*format) break;
        if (!strncmp(format, "%llu", 4)) {
            put_number(&out, va_arg(values, unsigned long long), false), format += 4;
        } else if (!strncmp(format, "%lld", 4)) {
            put_signed(&out, va_arg(values, long long)), format += 4;
        } else if (!strncmp(format, "%u", 2)) {
            put_number(&out, va_arg(values, unsigned), false), format += 2;
        } else if (!strncmp(format, "%d", 2)) {
            put_signed(&out, va_arg(values, int)), format += 2;
        } else if (!strncmp(format, "%s", 2)) {
            const char *text = va_arg(values, const char *);
            put(&out, text, strlen(text)), format += 2;
        } else {
            // `%%`, and whatever is not known as it stands.
            put(&out, format, 1), format += format[1] == '%' ? 2 : 1;
        }
    }
    return out.at;
}

char *pw_text(const char *format, ...) {
    va_list values;
    va_start(values, format);
    char *text = pw_text_of(format, values);
    va_end(values);
    return text;
}

policy_string_t pw_borrowed(const char *text) { return (policy_string_t){(uint8_t *)text, strlen(text)}; }

static void log_line(uint8_t level, const char *text) {
    policy_string_t message = pw_borrowed(text);
    pingward_policy_log_write(level, &message);
}

void pw_log(uint8_t level, const char *format, ...) {
    va_list values;
    va_start(values, format);
    log_line(level, pw_text_of(format, values));
    va_end(values);
}

void pw_fail(const char *format, ...) {
    // Nothing that needs memory may fail twice.
    static bool failing;
    va_list values;
    va_start(values, format);
    log_line(4, failing ? format : (failing = true, pw_text_of(format, values)));
    va_end(values);
    abort();
}
