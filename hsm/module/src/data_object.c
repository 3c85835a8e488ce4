#include "data_object.h"

#include <string.h>

static CK_BBOOL yes = CK_TRUE, no = CK_FALSE;

static CK_RV find(const struct kw_inner *inner, const char *name, CK_OBJECT_HANDLE *objects, CK_ULONG limit,
                  CK_ULONG *count)
{
    CK_OBJECT_CLASS class = CKO_DATA;
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class, sizeof class},
        {CKA_TOKEN, &yes, sizeof yes},
        {CKA_LABEL, (void *)name, strlen(name)},
    };
    *count = 0;
    CK_RV rv = inner->functions->C_FindObjectsInit(inner->session, template, sizeof template / sizeof *template);
    if (rv != CKR_OK)
        return rv;
    rv = inner->functions->C_FindObjects(inner->session, objects, limit, count);
    CK_RV ended = inner->functions->C_FindObjectsFinal(inner->session);
    return rv != CKR_OK ? rv : ended;
}

CK_RV kw_data_read(const struct kw_inner *inner, const char *name, uint8_t *octets, CK_ULONG size, CK_ULONG *length)
{
    CK_OBJECT_HANDLE objects[2];
    CK_ULONG count;
    *length = 0;
    CK_RV rv = find(inner, name, objects, 2, &count);
    if (rv != CKR_OK || count == 0)
        return rv;
    if (count > 1)
        return CKR_DEVICE_ERROR;
    CK_ATTRIBUTE value = {CKA_VALUE, octets, size};
    rv = inner->functions->C_GetAttributeValue(inner->session, objects[0], &value, 1);
    if (rv != CKR_OK || value.ulValueLen > size)
        return CKR_DEVICE_ERROR;
    *length = value.ulValueLen;
    return CKR_OK;
}

CK_RV kw_data_replace(const struct kw_inner *inner, const char *name, const uint8_t *octets, CK_ULONG length)
{
    CK_OBJECT_CLASS class = CKO_DATA;
    CK_OBJECT_HANDLE previous[2], created;
    CK_ULONG count;
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class, sizeof class}, {CKA_TOKEN, &yes, sizeof yes},           {CKA_PRIVATE, &yes, sizeof yes},
        {CKA_MODIFIABLE, &no, sizeof no},  {CKA_LABEL, (void *)name, strlen(name)}, {CKA_VALUE, (void *)octets, length},
    };
    CK_RV rv = find(inner, name, previous, 2, &count);
    if (rv == CKR_OK)
        rv = inner->functions->C_CreateObject(inner->session, template, sizeof template / sizeof *template, &created);
    for (CK_ULONG i = 0; rv == CKR_OK && i < count; i++)
        rv = inner->functions->C_DestroyObject(inner->session, previous[i]);
    return rv;
}
