"""Key-change tokens for meters: one, or a campaign of many thousands.

Lives here: campaign files, their approval, the course of a campaign, what recipients get and customers read. The key
loader is a client of the appliance here (``appliance.client``): tokens come by the appliance's own issuing path, with
ledger and log. Does not live here: anything that makes a token.
"""
