/*
 * A PKCS#11 library that misbehaves on demand: passes everything to SoftHSM, but while the file KW_TRIGGER exists,
 * C_Sign and C_Encrypt do what its first letter says: h hang, d device error, w wrong answer.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>

#define CRYPTOKI_COMPAT 1
#include <p11-kit/pkcs11.h>

static CK_FUNCTION_LIST list;
static CK_FUNCTION_LIST_PTR real;

static int misbehaviour(void)
{
    FILE *file = fopen(KW_TRIGGER, "r");
    int letter = 0;
    if (file != NULL) {
        letter = fgetc(file);
        fclose(file);
    }
    return letter;
}

static CK_RV misbehave(CK_RV rv, CK_BYTE_PTR result)
{
    switch (misbehaviour()) {
    case 'h':
        for (;;)
            pause();
    case 'd':
        return CKR_DEVICE_ERROR;
    case 'w':
        if (result != NULL)
            result[0] ^= 1;
        break;
    }
    return rv;
}

static CK_RV sign(CK_SESSION_HANDLE session, CK_BYTE_PTR data, CK_ULONG length, CK_BYTE_PTR out,
                  CK_ULONG_PTR out_length)
{
    return misbehave(real->C_Sign(session, data, length, out, out_length), out);
}

static CK_RV encrypt(CK_SESSION_HANDLE session, CK_BYTE_PTR data, CK_ULONG length, CK_BYTE_PTR out,
                     CK_ULONG_PTR out_length)
{
    return misbehave(real->C_Encrypt(session, data, length, out, out_length), out);
}

CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR result)
{
    void *library = dlopen("/usr/lib/softhsm/libsofthsm2.so", RTLD_NOW | RTLD_LOCAL);
    CK_C_GetFunctionList get_list;
    if (library == NULL)
        return CKR_GENERAL_ERROR;
    *(void **)&get_list = dlsym(library, "C_GetFunctionList");
    CK_RV rv = get_list(&real);
    list = *real;
    list.C_Sign = sign;
    list.C_Encrypt = encrypt;
    *result = &list;
    return rv;
}
