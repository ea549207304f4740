"""`python -m bylaw`."""

from bylaw.cli import main

raise SystemExit(main())
