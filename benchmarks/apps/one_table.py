"""Flask and Flask-SQLAlchemy with one table and one page, and no accounts: what a worker needs without them."""

from __future__ import annotations

from flask import Flask, render_template_string
from flask_sqlalchemy import SQLAlchemy

from benchmarks.adapters.base import conditions

db = SQLAlchemy()


class User(db.Model):
    """A row with an address."""

    __tablename__ = "users"

    id = db.Column(db.Integer, primary_key=True)
    email = db.Column(db.String(320), unique=True)


def create_app() -> Flask:
    """Return the app under the conditions of this process."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = conditions().database.replace("postgresql:", "postgresql+psycopg2:")
    db.init_app(app)

    @app.get("/")
    def home() -> str:
        return render_template_string("{{ people|length }} people", people=db.session.scalars(db.select(User)).all())

    return app


if __name__ == "__main__":
    with create_app().app_context():
        db.create_all()
