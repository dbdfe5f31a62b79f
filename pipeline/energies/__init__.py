"""Energies: functions from n states to n numbers, low where likely; toy densities whose normaliser is known."""
