"""The users of the django-allauth app, in a package of their own because Django wants its models so."""
