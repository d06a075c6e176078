// The config: JSON text of an object, read once; a rule takes the keys that it knows.
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

enum { KEYS = 64, DEPTH = 32 };

typedef enum { TEXT, NUMBER, NEGATIVE, FRACTION, BOOLEAN, NOTHING, LIST, OBJECT } kind;

static const char *const KINDS[] = {"a text",  "a number", "a number below zero", "a fraction",
                                    "a boolean", "null",     "a list",              "an object"};

typedef struct {
    const char *key, *text;
    uint64_t number; // also a boolean
    kind kind;
    bool taken;
} entry;

struct pw_config {
    const char *at, *end;
    entry entries[KEYS];
    uint32_t count;
    const char *known[KEYS];
    uint32_t known_count;
    const char *error;
};

char *pw_text_of(const char *format, va_list values);

void pw_refuse(pw_config *config, const char *format, ...) {
    if (config->error) return;
    va_list values;
    va_start(values, format);
    config->error = pw_text_of(format, values);
    va_end(values);
}

static bool is(pw_config *config, char wanted) { return config->at < config->end && *config->at == wanted; }

static void skip_space(pw_config *config) {
    while (is(config, ' ') || is(config, '\t') || is(config, '\n') || is(config, '\r')) config->at++;
}

static bool take(pw_config *config, char wanted) {
    skip_space(config);
    if (!is(config, wanted)) return false;
    config->at++;
    return true;
}

static bool word(pw_config *config, const char *wanted) {
    size_t length = strlen(wanted);
    if ((size_t)(config->end - config->at) < length || memcmp(config->at, wanted, length)) return false;
    config->at += length;
    return true;
}

static bool hex(pw_config *config, uint32_t *value) {
    *value = 0;
    for (int i = 0; i < 4; i++, config->at++) {
        if (config->at == config->end) return false;
        char c = *config->at;
        uint32_t digit = c >= '0' && c <= '9' ? (uint32_t)(c - '0') : (uint32_t)((c | 32) - 'a' + 10);
        if (digit > 15 || (digit > 9 && ((c | 32) < 'a' || (c | 32) > 'f'))) return false;
        *value = *value << 4 | digit;
    }
    return true;
}

static char *utf8(char *to, uint32_t c) {
    if (c < 0x80) {
        *to++ = (char)c;
    } else if (c < 0x800) {
        *to++ = (char)(0xc0 | c >> 6), *to++ = (char)(0x80 | (c & 63));
    } else if (c < 0x10000) {
        *to++ = (char)(0xe0 | c >> 12), *to++ = (char)(0x80 | (c >> 6 & 63)), *to++ = (char)(0x80 | (c & 63));
    } else {
        *to++ = (char)(0xf0 | c >> 18), *to++ = (char)(0x80 | (c >> 12 & 63));
        *to++ = (char)(0x80 | (c >> 6 & 63)), *to++ = (char)(0x80 | (c & 63));
    }
    return to;
}

// The text between two quotes, with a zero byte behind it; NULL if there is none.
static const char *text(pw_config *config) {
    if (!take(config, '"')) return NULL;
    char *start = malloc((size_t)(config->end - config->at) + 1), *to = start;
    while (config->at < config->end && *config->at != '"') {
        char c = *config->at++;
        if ((unsigned char)c < 32) return NULL;
        if (c != '\\') {
            *to++ = c;
            continue;
        }
        if (config->at == config->end) return NULL;
        c = *config->at++;
        uint32_t code, low;
        switch (c) {
        case '"': case '\\': case '/': *to++ = c; break;
        case 'b': *to++ = '\b'; break;
        case 'f': *to++ = '\f'; break;
        case 'n': *to++ = '\n'; break;
        case 'r': *to++ = '\r'; break;
        case 't': *to++ = '\t'; break;
        case 'u':
            if (!hex(config, &code)) return NULL;
            if (code >= 0xd800 && code < 0xdc00) {
                if (!word(config, "\\u") || !hex(config, &low) || low < 0xdc00 || low > 0xdfff) return NULL;
                code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
            } else if (code >= 0xdc00 && code < 0xe000) {
                return NULL;
            }
            to = utf8(to, code);
            break;
        default: return NULL;
        }
    }
    *to = 0;
    return take(config, '"') ? start : NULL;
}

static bool digits(pw_config *config) {
    const char *from = config->at;
    while (config->at < config->end && *config->at >= '0' && *config->at <= '9') config->at++;
    return config->at > from;
}

static bool number(pw_config *config, entry *value) {
    bool negative = is(config, '-');
    if (negative) config->at++;
    const char *from = config->at;
    if (!digits(config) || (*from == '0' && config->at > from + 1)) return false;
    value->kind = negative ? NEGATIVE : NUMBER;
    for (const char *digit = from; digit < config->at; digit++) {
        uint64_t last = (uint64_t)(*digit - '0');
        // As the host reads it: what fits into no integer is a fraction.
        if (value->number > (UINT64_MAX - last) / 10 && !negative) value->kind = FRACTION;
        value->number = value->number * 10 + last;
    }
    if (is(config, '.')) {
        config->at++, value->kind = FRACTION;
        if (!digits(config)) return false;
    }
    if (is(config, 'e') || is(config, 'E')) {
        config->at++, value->kind = FRACTION;
        if (is(config, '+') || is(config, '-')) config->at++;
        if (!digits(config)) return false;
    }
    return true;
}

// Reads any value; of lists and objects only that they are well formed.
static bool any(pw_config *config, entry *value, int depth) {
    entry inner = {0};
    if (depth == DEPTH) return false;
    skip_space(config);
    if (is(config, '"')) return value->kind = TEXT, (value->text = text(config)) != NULL;
    if (word(config, "true")) return value->kind = BOOLEAN, value->number = 1, true;
    if (word(config, "false")) return value->kind = BOOLEAN, true;
    if (word(config, "null")) return value->kind = NOTHING, true;
    bool list = is(config, '[');
    if (!list && !is(config, '{')) return number(config, value);
    config->at++;
    value->kind = list ? LIST : OBJECT;
    if (take(config, list ? ']' : '}')) return true;
    do {
        if (!list && (!text(config) || !take(config, ':'))) return false;
        if (!any(config, &inner, depth + 1)) return false;
    } while (take(config, ','));
    return take(config, list ? ']' : '}');
}

static void parse(pw_config *config) {
    skip_space(config);
    if (config->at == config->end) return;
    if (!is(config, '{')) {
        entry value = {0};
        if (any(config, &value, 0)) pw_refuse(config, "the config is no JSON object, such as {\"limit\":3}");
        pw_refuse(config, "the config is not valid JSON");
        return;
    }
    config->at++;
    bool valid = true;
    if (!take(config, '}')) {
        do {
            if (config->count == KEYS) {
                pw_refuse(config, "the config has more than %d keys", KEYS);
                return;
            }
            entry *next = &config->entries[config->count++];
            valid = (next->key = text(config)) && take(config, ':') && any(config, next, 1);
        } while (valid && take(config, ','));
        valid = valid && take(config, '}');
    }
    skip_space(config);
    if (!valid || config->at != config->end) pw_refuse(config, "the config is not valid JSON");
}

static const entry *find(pw_config *config, const char *key) {
    if (config->known_count < KEYS) config->known[config->known_count++] = key;
    // The last one of equal keys counts, as everywhere in JSON.
    const entry *found = NULL;
    for (uint32_t i = 0; i < config->count; i++) {
        if (strcmp(config->entries[i].key, key)) continue;
        config->entries[i].taken = true;
        found = &config->entries[i];
    }
    return found;
}

uint64_t pw_integer(pw_config *config, const char *key, uint64_t usual, uint64_t low, uint64_t high) {
    const entry *found = find(config, key);
    if (!found) return usual;
    if (found->kind != NUMBER) {
        pw_refuse(config, "`%s` is %s; it must be a whole number from %llu to %llu", key, KINDS[found->kind],
                  (unsigned long long)low, (unsigned long long)high);
    } else if (found->number < low || found->number > high) {
        pw_refuse(config, "`%s` is %llu; it may be %llu to %llu", key, (unsigned long long)found->number,
                  (unsigned long long)low, (unsigned long long)high);
    } else {
        return found->number;
    }
    return usual;
}

bool pw_boolean(pw_config *config, const char *key, bool usual) {
    const entry *found = find(config, key);
    if (!found) return usual;
    if (found->kind == BOOLEAN) return found->number == 1;
    pw_refuse(config, "`%s` is %s; it must be true or false", key, KINDS[found->kind]);
    return usual;
}

const char *pw_string(pw_config *config, const char *key, const char *usual) {
    const entry *found = find(config, key);
    if (!found) return usual;
    if (found->kind == TEXT) return found->text;
    pw_refuse(config, "`%s` is %s; it must be a text in quotes", key, KINDS[found->kind]);
    return usual;
}

static void refuse_unknown(pw_config *config) {
    for (uint32_t i = 0; i < config->count; i++) {
        if (config->entries[i].taken) continue;
        const char *knows = config->known_count ? "it knows " : "it takes no config";
        for (uint32_t k = 0; k < config->known_count; k++) {
            knows = pw_text("%s%s`%s`", knows, k ? ", " : "", config->known[k]);
        }
        pw_refuse(config, "unknown key `%s`; %s", config->entries[i].key, knows);
    }
}

const char *pw_configured(const policy_string_t *text) {
    // Blocks come from memory that is zero.
    pw_config *config = malloc(sizeof *config);
    config->at = (const char *)text->ptr;
    config->end = config->at + text->len;
    parse(config);
    if (!config->error) configure(config);
    if (!config->error) refuse_unknown(config);
    return config->error;
}
