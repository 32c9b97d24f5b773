"""`keras-m3s export`."""
import click


@click.command()
def export() -> None:
    """."""
