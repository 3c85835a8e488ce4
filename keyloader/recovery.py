"""What a kill left of an earlier ceremony is settled before anything else: drafts, records, stores, archives."""

from __future__ import annotations

from keyloader import backup
from keyloader.records_folder import RecordsFolder
from keyloader.site import Site
from keyloader.token_store import TokenStore


def settle(site: Site) -> tuple[TokenStore, RecordsFolder]:
    """Settle it, and return stores and records.

    Raises:
        StoreBusy: another ceremony is under way; nothing was touched.
        SiteFault, RecordInvalid, OSError: see there.
    """
    store, records = TokenStore(site.token_folder), RecordsFolder(site.records)
    # First the lock: another ceremony that is under way has drafts and records that wait.
    store.recover()
    if site.backups is not None and site.backups.is_dir():
        backup.recover(site.backups, records.pending())
    store.recover(records.recover(store.current))
    return store, records
