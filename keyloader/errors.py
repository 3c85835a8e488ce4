"""Errors of the key loader. None shows a key octet or a table entry."""

from __future__ import annotations


class KeyLoaderError(Exception):
    """Base of every error raised by :mod:`keyloader`."""

    reason = "KEY_LOADER_ERROR"
    retryable = False
    hint = "See the message."


class StoreBusy(KeyLoaderError):
    """Another ceremony works on the same token store."""

    reason = "TOKEN_STORE_BUSY"
    retryable = True
    hint = "Wait until it has ended, then begin again."


class KeyFileInvalid(KeyLoaderError):
    """A development key file that is no TOML, or has an unknown or wrong field."""

    reason = "KEY_FILE_INVALID"
    hint = "See the message for the entry and the field; softhsm-config/development-keys.toml is an example."


class TablesFileInvalid(KeyLoaderError):
    """A file of EA07 tables that is no JSON, or whose tables are no permutations."""

    reason = "STA_TABLES_INVALID"
    hint = "Both substitutions must permute 0..15, the permutation 0..63; ask the licensor for a good file."


class PlanInvalid(KeyLoaderError):
    """A plan or site file that is no TOML, or has an unknown, wrong or contradicting field."""

    reason = "PLAN_INVALID"
    hint = "See the message for the field; docs/plans has a sample plan of each type."


class PlanChanged(KeyLoaderError):
    """The plan is not the one that was confirmed."""

    reason = "PLAN_NOT_CONFIRMED"
    hint = "Compare the plan's digest with the one that was reviewed, and begin again."


class ApprovalRefused(KeyLoaderError):
    """Too few officers have approved."""

    reason = "APPROVAL_REFUSED"
    hint = "See the record for what was refused of whom; begin again with the right officers."


class ComponentRefused(KeyLoaderError):
    """A component was entered wrongly too often."""

    reason = "COMPONENT_REFUSED"
    hint = "Compare the check value on the envelope with the plan; begin again."


class CeremonyStopped(KeyLoaderError):
    """Those present ended the ceremony."""

    reason = "CEREMONY_STOPPED"
    hint = "The token store is as it was; begin again when ready."


class StoreUnproven(KeyLoaderError):
    """The new token store is not what it should be; it was not put in force."""

    reason = "STORE_UNPROVEN"
    hint = "The store in force is as it was. See the message; call the developers."


class RecordInvalid(KeyLoaderError):
    """A record that is not of its form, or that its signatures do not prove."""

    reason = "RECORD_INVALID"
    hint = "Compare it with the copy that the auditors keep."


class TerminalMissing(KeyLoaderError):
    """Something can be entered at a terminal only."""

    reason = "TERMINAL_MISSING"
    hint = "Run the ceremony at a terminal, not in a pipe or a job."


class StoreNotBlank(KeyLoaderError):
    """A token is to be initialised where one is in force."""

    reason = "STORE_NOT_BLANK"
    hint = "Initialise into an empty folder; a token in force is never wiped."


class SiteFault(KeyLoaderError):
    """Something that the site file names is not there or fails."""

    reason = "SITE_FAULT"
    hint = "See the message for the path; nothing was changed."


class RequestFileInvalid(KeyLoaderError):
    """A key request that is not of its form, or that the trusted audit key has not signed."""

    reason = "KEY_REQUEST_INVALID"
    hint = "Have the module make a new request; compare its audit key with the record of its initialisation."


class KeyLoadFileInvalid(KeyLoaderError):
    """A key-load file that is not of its form, contradicts itself, or is not as its centre has signed it."""

    reason = "KEY_LOAD_FILE_INVALID"
    hint = "Ask the key management centre for another file for the same request; docs/key-files.md has the form."


class BackupInvalid(KeyLoaderError):
    """A backup that is not of its form, or that the shares do not open."""

    reason = "BACKUP_INVALID"
    hint = "Compare the digest with the record of the backup, and each share's check value with its envelope."


class CampaignInvalid(KeyLoaderError):
    """A campaign file or list of meters that is not of its form, or that contradicts itself."""

    reason = "CAMPAIGN_INVALID"
    hint = "See the message for the field or line; docs/key-changes.md has the form, docs/plans a sample."


class OutputExists(KeyLoaderError):
    """A folder of output that belongs to another campaign, or a file that is there already."""

    reason = "OUTPUT_EXISTS"
    hint = "Name a folder or file that is not there; a campaign goes on in its own folder only."


class ApplianceRefusal(KeyLoaderError):
    """The appliance cannot be reached, or refuses."""

    reason = "APPLIANCE_REFUSED"
    retryable = True
    hint = "See the message; running the same campaign again goes on where it was, with the same tokens."

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        if hint:
            self.hint = hint
