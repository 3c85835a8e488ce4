/*
 * The functionality module driven from C: how fast it is with nothing of ours in front of it.
 *
 *   fm LIBRARY PIN LABEL_PREFIX REQUEST SECONDS
 *
 * REQUEST: one issue request as it goes to C_Sign. Prints one JSON object.
 */
#include <dlfcn.h>
#include <p11-kit/pkcs11.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ANSWER_MAX = 1 << 17, LABEL_MAX = 256, KW_ISSUE = 1 };

static void check(CK_RV result, const char *what)
{
    if (result != CKR_OK) {
        fprintf(stderr, "fm: %s: 0x%lx\n", what, (unsigned long)result);
        exit(1);
    }
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: fm LIBRARY PIN LABEL_PREFIX REQUEST SECONDS\n");
        return 2;
    }
    void *library = dlopen(argv[1], RTLD_NOW);
    CK_C_GetFunctionList get = library != NULL ? (CK_C_GetFunctionList)dlsym(library, "C_GetFunctionList") : NULL;
    if (get == NULL) {
        fprintf(stderr, "fm: %s\n", dlerror());
        return 1;
    }
    CK_FUNCTION_LIST *p11;
    check(get(&p11), "C_GetFunctionList");
    check(p11->C_Initialize(NULL), "C_Initialize");
    CK_SLOT_ID slot;
    CK_ULONG count = 1;
    check(p11->C_GetSlotList(CK_TRUE, &slot, &count), "C_GetSlotList");
    CK_SESSION_HANDLE session;
    check(p11->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, &session), "C_OpenSession");
    check(p11->C_Login(session, CKU_USER, (CK_UTF8CHAR *)argv[2], strlen(argv[2])), "C_Login");
    check(p11->C_FindObjectsInit(session, NULL, 0), "C_FindObjectsInit");
    CK_OBJECT_HANDLE key = 0, found;
    while (p11->C_FindObjects(session, &found, 1, &count) == CKR_OK && count == 1) {
        char label[LABEL_MAX] = {0};
        CK_ATTRIBUTE attribute = {CKA_LABEL, label, sizeof label - 1};
        if (p11->C_GetAttributeValue(session, found, &attribute, 1) == CKR_OK &&
            strncmp(label, argv[3], strlen(argv[3])) == 0) {
            key = found;
        }
    }
    check(p11->C_FindObjectsFinal(session), "C_FindObjectsFinal");
    if (key == 0) {
        fprintf(stderr, "fm: no key %s\n", argv[3]);
        return 1;
    }
    static CK_BYTE request[ANSWER_MAX], answer[ANSWER_MAX];
    FILE *file = fopen(argv[4], "rb");
    size_t length = file != NULL ? fread(request, 1, sizeof request, file) : 0;
    unsigned items = (unsigned)request[2] << 8 | request[3];
    CK_MECHANISM mechanism = {CKM_VENDOR_DEFINED | 0x4B5700 | KW_ISSUE, NULL, 0};
    double start = now(), end = start + atof(argv[5]), at = start;
    unsigned long tokens = 0, refused = 0;
    while (at < end) {
        CK_ULONG size = sizeof answer;
        check(p11->C_SignInit(session, &mechanism, key), "C_SignInit");
        check(p11->C_Sign(session, request, length, answer, &size), "C_Sign");
        for (unsigned i = 0; i < items; i++) {
            const CK_BYTE *item = answer + 8 + (size - 8) / items * i;
            refused += item[0] != 0 || item[1] != 0;
        }
        tokens += items;
        at = now();
    }
    printf("{\"tokens\": %lu, \"refused\": %lu, \"seconds\": %.4f}\n", tokens, refused, at - start);
    return 0;
}
