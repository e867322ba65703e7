"""The database, its migrations, the user and the accounts."""

from __future__ import annotations

from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import MetaData, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from wtforms import StringField
from wtforms.validators import Length, Optional

from flask_accountflow import AccountFlow, UserMixin, forms


class Base(DeclarativeBase):
    """Names every constraint, so that a migration can drop it on every database."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


db = SQLAlchemy(model_class=Base)
migrate = Migrate()


class User(UserMixin, db.Model):
    """An account, with one column of our own."""

    __tablename__ = "users"

    name: Mapped[str | None] = mapped_column(String(64))


class SignupForm(forms.SignupForm):
    """The sign-up form, with a field for the column of the same name."""

    name = StringField("Name", validators=[Optional(), Length(max=64)], render_kw={"autocomplete": "name"})


accounts = AccountFlow(db=db, user_model=User, signup_form=SignupForm)
