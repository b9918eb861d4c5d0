"""Holds a table in memory and analyses its numbers; stands for any large data frame."""

import csv
import itertools
import statistics


class App:
    def setup(self):
        self.columns = {}

    def run(self, input):
        action = input.get("action")
        if action == "load":
            return self._load(input["dataset"])
        if action == "analyze":
            return self._analyze(input["type"])
        raise ValueError(f"unknown action {action!r}: use 'load' or 'analyze'")

    def _load(self, dataset):
        with open(dataset, newline="") as file:
            rows = list(csv.DictReader(file))
        self.columns = {name: [float(row[name]) for row in rows] for name in rows[0]}
        return {"rows": len(rows), "columns": list(self.columns)}

    def _analyze(self, type):
        analyses = {
            "summary": self._summary,
            "correlations": self._correlations,
            "outliers": self._outliers,
            "trends": self._trends,
        }
        if type not in analyses:
            raise ValueError(f"unknown analysis {type!r}: use one of {', '.join(analyses)}")
        return analyses[type]()

    def _summary(self):
        return {
            name: {"mean": statistics.fmean(values), "min": min(values), "max": max(values)}
            for name, values in self.columns.items()
        }

    def _correlations(self):
        return {
            f"{one} {other}": statistics.correlation(self.columns[one], self.columns[other])
            for one, other in itertools.combinations(self.columns, 2)
        }

    def _outliers(self):
        found = {}
        for name, values in self.columns.items():
            mean, deviation = statistics.fmean(values), statistics.pstdev(values)
            found[name] = sum(abs(value - mean) > 3 * deviation for value in values)
        return found

    def _trends(self):
        return {
            name: statistics.linear_regression(range(len(values)), values).slope
            for name, values in self.columns.items()
        }
