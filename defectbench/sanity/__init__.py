"""Defects without a charge in silicon, tungsten, molybdenum and niobium: does a model fail at charges, or at defects?"""
