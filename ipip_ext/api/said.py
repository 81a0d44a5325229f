"""What a call has to tell besides what it returns: which pickled models it is about to load, who may reach a page.

A logger, so that Python users see it on stderr unless they have set up logging of their own.
"""

from __future__ import annotations

import logging

log = logging.getLogger("ipip_ext.api")
